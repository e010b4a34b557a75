//! `cargo xtask vectors`: runs the committed test vectors, or makes them anew with independent implementations.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use crate::cargo::{self, Package};
use crate::{command, python};

const GENERATORS: &str = "xtask/vectors";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Runs every vector file of the crates (`LLM_VECTORS=DIR` adds files of your own) and prints the tables
    Check {
        /// Only this crate, with or without `llm-`
        #[arg(value_name = "CRATE")]
        package: Option<String>,
    },
    /// Writes the vector files anew (needs Python 3 and, the first time, a network)
    Generate {
        /// Only this crate, with or without `llm-`
        #[arg(value_name = "CRATE")]
        package: Option<String>,
        /// Seed of the generators' random inputs
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Write to DIR/CRATE instead of the crates' own tests/data
        #[arg(long, value_name = "DIR")]
        out: Option<std::path::PathBuf>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cargo::root();
    let packages = cargo::packages(&root)?;
    let one = |name: &Option<String>| -> Result<Option<&Package>> {
        name.as_ref()
            .map(|name| cargo::find(&packages, name))
            .transpose()
    };
    match &args.action {
        Action::Check { package } => check(&root, &packages, one(package)?),
        Action::Generate { package, seed, out } => {
            generate(&root, &packages, one(package)?, *seed, out.as_deref())
        }
    }
}

fn check(root: &Path, packages: &[Package], one: Option<&Package>) -> Result<()> {
    let chosen: Vec<&Package> = match one {
        Some(package) => vec![package],
        None => packages
            .iter()
            .filter(|package| has_vectors(root, package))
            .collect(),
    };
    if chosen.is_empty() {
        bail!("no crate has vector files under tests/data");
    }
    let mut failed = Vec::new();
    for package in chosen {
        if !has_vectors(root, package) && std::env::var_os("LLM_VECTORS").is_none() {
            bail!(
                "`{}` has no vector files under {}/tests/data",
                package.name,
                package.folder
            );
        }
        println!("== {}", package.name);
        let mut command = command::cargo(root);
        command.args(["test", "--package", &package.name, "--all-features"]);
        command.args(["--test", "it", "vectors", "--", "--nocapture"]);
        match command::run_and_read(&mut command) {
            Ok(text) if passed(&text) == 0 => {
                failed.push(format!("{} (no test is named `vectors`)", package.name));
            }
            Ok(_) => {}
            Err(error) => failed.push(format!("{} ({error:#})", package.name)),
        }
    }
    if !failed.is_empty() {
        bail!("vectors failed in: {}", failed.join(", "));
    }
    Ok(())
}

/// How many tests passed, by the closing lines of the test programs.
fn passed(text: &str) -> usize {
    text.lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .filter_map(|line| line.split(' ').next()?.parse::<usize>().ok())
        .sum()
}

/// True if there is more than the README below the crate's tests/data.
fn has_vectors(root: &Path, package: &Package) -> bool {
    fn below(folder: &Path) -> bool {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return false;
        };
        entries.flatten().any(|entry| {
            let path = entry.path();
            if path.is_dir() {
                below(&path)
            } else {
                entry.file_name() != "README.md"
            }
        })
    }
    below(&root.join(&package.folder).join("tests/data"))
}

fn generate(
    root: &Path,
    packages: &[Package],
    one: Option<&Package>,
    seed: u64,
    out: Option<&Path>,
) -> Result<()> {
    let scripts: Vec<(&Package, String)> = match one {
        Some(package) => vec![(package, script(package))],
        None => packages
            .iter()
            .map(|package| (package, script(package)))
            .filter(|(_, script)| root.join(script).is_file())
            .collect(),
    };
    if scripts.is_empty() {
        bail!("there is no generator under {GENERATORS}");
    }
    for (package, script) in &scripts {
        if !root.join(script).is_file() {
            bail!("`{}` has no generator: {script} is missing", package.name);
        }
    }
    let python = python::environment(root)?;
    for (package, script) in scripts {
        let out = match out {
            Some(out) => std::path::absolute(out)
                .with_context(|| format!("cannot resolve {}", out.display()))?
                .join(stem(package)),
            None => Path::new(&package.folder).join("tests/data"),
        };
        let mut command = Command::new(&python);
        command
            .current_dir(root)
            .arg(script)
            .args(["--seed", &seed.to_string(), "--out"])
            .arg(out);
        command::run(&mut command)?;
    }
    Ok(())
}

/// The crate as a Rust identifier: `chat_format`.
fn stem(package: &Package) -> String {
    let folder = package.folder.rsplit('/').next().unwrap_or(&package.folder);
    folder.replace('-', "_")
}

fn script(package: &Package) -> String {
    format!("{GENERATORS}/{}.py", stem(package))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn scripts_are_named_as_rust_names_the_crate() {
        let package = Package {
            name: "llm-chat-format".to_owned(),
            folder: "crates/chat-format".to_owned(),
            needs: BTreeMap::new(),
            tests_need: BTreeSet::new(),
            features: BTreeSet::new(),
            has_lib: true,
            tests_plain: true,
            has_gpu: false,
        };
        assert_eq!(script(&package), "xtask/vectors/chat_format.py");
    }

    #[test]
    fn a_run_without_a_test_counts_as_nothing_passed() {
        let text = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; \
                    9 filtered out; finished in 0.00s\n";
        assert_eq!(passed(text), 0);
        assert_eq!(passed(&text.replace("ok. 0", "ok. 12")), 12);
    }
}
