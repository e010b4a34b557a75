//! Calls `xtask-browser`, which is built only when something needs a browser.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command;

const WASM: &str = "wasm32-unknown-unknown";

/// Builds the package for WebAssembly, small, and makes a module of it: `NAME.js` and `NAME_bg.wasm` in `out`.
pub(crate) fn module(root: &Path, package: &str, out: &Path) -> Result<()> {
    let build = [
        "build",
        "--profile",
        "wasm",
        "--target",
        WASM,
        "--package",
        package,
    ];
    command::run(command::cargo(root).args(build))?;
    let name = package.replace('-', "_");
    let wasm = target(root)?
        .join(WASM)
        .join("wasm")
        .join(format!("{name}.wasm"));
    command::run(
        tool(root)
            .arg("bindgen")
            .arg("--wasm")
            .arg(wasm)
            .arg("--out")
            .arg(out),
    )
}

/// What a page is opened for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit<'a> {
    /// The folder that is served.
    pub(crate) root: &'a Path,
    /// Paths below it.
    pub(crate) pages: &'a [&'a str],
    /// Body of an async function that runs in each page.
    pub(crate) script: &'a str,
    /// Seconds for each page.
    pub(crate) timeout: u32,
}

/// Opens the pages in a headless Chromium and returns what the script returned in each. Fails if a page throws, logs an
/// error, misses a file or asks another server.
pub(crate) fn visit(root: &Path, visit: &Visit<'_>) -> Result<Vec<Value>> {
    let script = std::env::temp_dir().join(format!("xtask-{}-script.js.tmp", std::process::id()));
    std::fs::write(&script, visit.script)
        .with_context(|| format!("cannot write {}", script.display()))?;
    let mut command = tool(root);
    command
        .arg("run")
        .arg("--root")
        .arg(visit.root)
        .arg("--script")
        .arg(&script);
    command.args(["--timeout", &visit.timeout.to_string()]);
    for page in visit.pages {
        command.args(["--page", page]);
    }
    let output = command::run_and_read(&mut command);
    std::fs::remove_file(&script).with_context(|| format!("cannot remove {}", script.display()))?;
    let values = output?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()
        .context("xtask-browser printed invalid JSON")?;
    if values.len() != visit.pages.len() {
        bail!("{} pages gave {} values", visit.pages.len(), values.len());
    }
    Ok(values)
}

fn tool(root: &Path) -> Command {
    let mut command = command::cargo(root);
    command.args(["run", "--quiet", "--package", "xtask-browser", "--"]);
    command
}

/// The folder that cargo builds into.
fn target(root: &Path) -> Result<std::path::PathBuf> {
    let args = ["metadata", "--no-deps", "--format-version", "1"];
    let metadata: Value = serde_json::from_str(&command::read(command::cargo(root).args(args))?)?;
    let folder = metadata["target_directory"].as_str();
    Ok(folder
        .context("`cargo metadata` has no `target_directory`")?
        .into())
}
