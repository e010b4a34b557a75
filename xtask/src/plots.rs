//! `cargo xtask plots`: writes the figures of the book, or compares them with what the functions give now.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{cargo, command};

/// Where the figures of the book are.
const FOLDER: &str = "book/src/plots";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if a figure is missing, different or not drawn by anything
    #[arg(long)]
    pub(crate) check: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cargo::root();
    let drawn = draw(&root)?;
    let kept = read(&root.join(FOLDER))?;
    let differences = differences(&drawn, &kept);
    if args.check {
        for difference in &differences {
            eprintln!("{FOLDER}/{difference}");
        }
        return match differences.len() {
            0 => {
                println!(
                    "plots: {} figures are as their functions draw them",
                    drawn.len()
                );
                Ok(())
            }
            n => bail!(
                "{n} figure{} differ; look at them, then run `cargo xtask plots`",
                if n == 1 { "" } else { "s" }
            ),
        };
    }
    write(&root.join(FOLDER), &drawn, &kept)?;
    println!(
        "plots: {} figures in {FOLDER}, {} changed",
        drawn.len(),
        differences.len()
    );
    Ok(())
}

/// SVG files by name.
type Files = BTreeMap<String, String>;

/// Draws every figure. Another program does it: this one knows no crate of ours.
fn draw(root: &Path) -> Result<Files> {
    let folder = cargo::target(root)?.join("plots");
    // What an earlier run left there is no figure of this one.
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let mut command = command::cargo(root);
    command.args(["run", "--package", "llm-blocks-plots", "--example"]);
    command.args(["write_all", "--"]).arg(&folder);
    command::run(&mut command)?;
    let drawn = read(&folder)?;
    if drawn.is_empty() {
        bail!("no figure was drawn into {}", folder.display());
    }
    Ok(drawn)
}

fn read(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    if !folder.exists() {
        return Ok(files);
    }
    let cannot = || format!("cannot read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|ending| ending == "svg") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            files.insert(name.into_owned(), text);
        }
    }
    Ok(files)
}

/// What is to be said about each file that is not as it should be.
fn differences(drawn: &Files, kept: &Files) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, new) in drawn {
        match kept.get(name) {
            None => differences.push(format!("{name}: missing")),
            Some(old) if old != new => {
                let line = old
                    .lines()
                    .zip(new.lines())
                    .position(|(old, new)| old != new)
                    .unwrap_or_else(|| old.lines().count().min(new.lines().count()));
                differences.push(format!("{name}:{}: drawn otherwise now", line + 1));
            }
            Some(_) => {}
        }
    }
    for name in kept.keys().filter(|name| !drawn.contains_key(*name)) {
        differences.push(format!("{name}: no function draws it"));
    }
    differences
}

fn write(folder: &Path, drawn: &Files, kept: &Files) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in drawn {
        if kept.get(name) != Some(text) {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    for name in kept.keys().filter(|name| !drawn.contains_key(*name)) {
        let path = folder.join(name);
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Files {
        files
            .iter()
            .map(|&(name, text)| (name.to_owned(), text.to_owned()))
            .collect()
    }

    #[test]
    fn equal_files_are_no_difference() {
        let both = files(&[("a.svg", "<svg/>\n")]);
        assert!(differences(&both, &both).is_empty());
    }

    #[test]
    fn missing_changed_and_stale_files_are_named() {
        let drawn = files(&[
            ("a.svg", "1\n2\n3\n"),
            ("b.svg", "1\n"),
            ("d.svg", "1\n2\n"),
        ]);
        let kept = files(&[("a.svg", "1\n2\n4\n"), ("c.svg", "1\n"), ("d.svg", "1\n")]);
        assert_eq!(
            differences(&drawn, &kept),
            [
                "a.svg:3: drawn otherwise now",
                "b.svg: missing",
                "d.svg:2: drawn otherwise now",
                "c.svg: no function draws it",
            ]
        );
    }
}
