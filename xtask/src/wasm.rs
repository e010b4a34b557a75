//! `cargo xtask wasm`: every crate that users pick builds for WebAssembly, with each set of features it promises.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::architecture;
use crate::{cargo, command};

const TARGET: &str = "wasm32-unknown-unknown";
/// The feature that brings compute shaders, where a crate has it.
const GPU: &str = "gpu";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this crate, with or without `llm-` (may be repeated)
    #[arg(short, long = "package", value_name = "CRATE")]
    packages: Vec<String>,
    /// Check only, without making code: quicker, and what `check` does
    #[arg(long)]
    check: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cargo::root();
    let how = if args.check { "check" } else { "build" };
    build(&root, how, &args.packages)
}

/// `cargo check` or `cargo build` of the crates, or of all base and method crates.
pub(crate) fn build(root: &Path, how: &str, only: &[String]) -> Result<()> {
    install(root)?;
    let mut packages = architecture::picked(root)?;
    if !only.is_empty() {
        let all = cargo::packages(root)?;
        packages = only
            .iter()
            .map(|name| cargo::find(&all, name).cloned())
            .collect::<Result<_>>()?;
    }
    let base = ["--lib", "--target", TARGET];
    for features in [&["--no-default-features"][..], &[], &["--features", GPU]] {
        let mut command = command::cargo(root);
        command.arg(how).args(base).args(features);
        let mut any = false;
        for package in &packages {
            // A package without the feature would be an error.
            if !features.contains(&GPU) || package.features.contains(GPU) {
                command.args(["--package", &package.name]);
                any = true;
            }
        }
        if any {
            command::run(&mut command)?;
        }
    }
    Ok(())
}

/// Adds the target to the toolchain unless it is there.
fn install(root: &Path) -> Result<()> {
    if has_target()? {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    let add = rustup.current_dir(root).args(["target", "add", TARGET]);
    command::run(add).with_context(|| {
        format!("the target {TARGET} cannot be had; install it, or pass --skip-wasm to `check`")
    })
}

/// True if the standard library for WebAssembly lies in the toolchain, whoever put it there.
fn has_target() -> Result<bool> {
    let mut rustc = Command::new("rustc");
    let folder = command::read(rustc.args(["--print", "target-libdir", "--target", TARGET]))?;
    Ok(Path::new(folder.trim()).is_dir())
}
