//! The live figures of the book: built for WebAssembly, opened in a browser, and compared with the native functions.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::browser::{self, Visit};
use crate::{cargo, command};

const PACKAGE: &str = "llm-blocks-widgets";
const FOLDER: &str = "book/widgets";

/// What a page needs beside the module and is not built.
const FILES: [&str; 2] = ["widget.js", "widget.css"];

/// Position, base, pairing and scaling as a reader sets them, and no two alike.
const SETTINGS: [[&str; 4]; 8] = [
    ["0", "10000", "interleaved", "none"],
    ["1", "10000", "half-split", "none"],
    ["100", "500000", "interleaved", "none"],
    ["4000", "10000", "half-split", "linear"],
    ["5000", "10000", "half-split", "dynamic-ntk"],
    ["300", "10000", "interleaved", "static-ntk"],
    ["6000", "10000", "half-split", "yarn"],
    ["65536", "500000", "half-split", "llama3"],
];

/// The page shows the number of the same `f64` code, but the browser's build has sines and cosines of its own, which may differ in
/// the last place before they are rounded to `f32`: 64 products of at most 2, each off by 2^-24 of itself.
const TOLERANCE: f64 = 1e-7;

/// Runs the verb.
pub(crate) fn run() -> Result<()> {
    let root = cargo::root();
    let out = root.join("target/widgets");
    build(&root, &out)?;
    let from = root.join(FOLDER);
    copy(&from.join("demo.html"), &out.join("demo.html"))?;
    std::fs::create_dir_all(out.join("static"))?;
    for entry in std::fs::read_dir(from.join("static"))? {
        let entry = entry?;
        copy(&entry.path(), &out.join("static").join(entry.file_name()))?;
    }
    check(&root, &out, &["demo.html"])
}

/// Builds the module of the live figures into `out`, with the script and the style of the pages.
pub(crate) fn build(root: &Path, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    browser::module(root, PACKAGE, out)?;
    for file in FILES {
        copy(&root.join(FOLDER).join(file), &out.join(file))?;
    }
    Ok(())
}

/// Opens pages below `served` that have the widget of RoPE, moves it, and compares its number with the native result.
pub(crate) fn check(root: &Path, served: &Path, pages: &[&str]) -> Result<()> {
    let wanted = native(root)?;
    let settings: Vec<Value> = SETTINGS
        .iter()
        .map(|[position, base, pairing, scaling]| {
            json!({ "position": position, "base": base, "pairing": pairing, "scaling": scaling })
        })
        .collect();
    let path = root.join(FOLDER).join("check.js");
    let script = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let visit = Visit {
        root: served,
        pages,
        script: &format!("const settings = {};\n{script}", Value::from(settings)),
        timeout: 60,
    };
    for (page, shown) in pages.iter().zip(browser::visit(root, &visit)?) {
        compare(&shown, &wanted).with_context(|| format!("the widget in {page}"))?;
        println!(
            "{page}: {} settings as the native functions say",
            wanted.len()
        );
    }
    Ok(())
}

/// The numbers of a native build.
fn native(root: &Path) -> Result<Vec<f64>> {
    let mut command = command::cargo(root);
    command.args([
        "run",
        "--quiet",
        "--package",
        PACKAGE,
        "--example",
        "rope_score",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines: Vec<String> = SETTINGS.iter().map(|words| words.join(" ")).collect();
    let mut input = child.stdin.take().context("the example has no input")?;
    input.write_all(lines.join("\n").as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({})",
            command::describe(&command),
            output.status
        );
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| line.parse().context(line.to_owned()))
        .collect()
}

fn compare(shown: &Value, wanted: &[f64]) -> Result<()> {
    let shown = shown.as_array().context("the page must return a list")?;
    if shown.len() != wanted.len() {
        bail!("{} settings gave {} numbers", wanted.len(), shown.len());
    }
    for ((settings, shown), &want) in SETTINGS.iter().zip(shown).zip(wanted) {
        let got = shown["value"]
            .as_f64()
            .with_context(|| format!("{settings:?} shows no number: {shown}"))?;
        if !((got - want).abs() <= TOLERANCE) {
            bail!("{settings:?} must show {want}, got {got}");
        }
        let pictures = shown["pictures"].as_array().map_or(0, Vec::len);
        if pictures != 2 {
            bail!("{settings:?} must show 2 pictures, got {pictures}");
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_is_found_and_so_is_none() {
        let shown = |value: f64| {
            let one = json!({ "value": value, "pictures": [7, 7] });
            Value::from(vec![one; SETTINGS.len()])
        };
        let wanted = [0.5; SETTINGS.len()];
        compare(&shown(0.5), &wanted).unwrap();
        compare(&shown(0.5 + 5e-8), &wanted).unwrap();
        compare(&shown(0.5 + 2e-7), &wanted).unwrap_err();
        compare(&shown(f64::NAN), &wanted).unwrap_err();
        compare(&json!([]), &wanted).unwrap_err();
    }
}
