//! `cargo xtask fuzz`: feeds a constructor with anything for a while.
//!
//! Needs the nightly toolchain and `cargo fuzz`. That the targets compile is checked without either.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{cargo, command};

/// The workspace of the targets.
pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";
const TARGETS: &str = "fuzz/fuzz_targets";
/// Largest single allocation, in MiB. Inputs have at most 4 KiB, so more than this is out of proportion.
const MOST_ALLOCATED: u32 = 64;
/// Largest memory of the whole process, with the sanitizer's own.
const MOST_RESIDENT: u32 = 2048;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The target to run: a file of `fuzz/fuzz_targets` without its ending
    #[arg(default_value = "all")]
    target: String,
    /// How long to run each
    #[arg(default_value_t = 60)]
    seconds: u32,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cargo::root();
    let mut targets = targets(&root)?;
    if args.target != "all" {
        if !targets.contains(&args.target) {
            bail!(
                "no target `{}`; there are: {}",
                args.target,
                targets.join(", ")
            );
        }
        targets.retain(|target| *target == args.target);
    }
    if !command::works(nightly(&root).args(["fuzz", "--version"]))? {
        bail!(
            "the nightly toolchain or `cargo fuzz` is missing; install them with: \
             rustup toolchain install nightly --profile minimal && cargo install --locked cargo-fuzz"
        );
    }
    for target in targets {
        let mut command = nightly(&root);
        command.args(["fuzz", "run", &target, "--"]);
        command.arg(format!("-max_total_time={}", args.seconds));
        command.arg(format!("-malloc_limit_mb={MOST_ALLOCATED}"));
        command.arg(format!("-rss_limit_mb={MOST_RESIDENT}"));
        command.args(["-timeout=10", "-print_final_stats=1", "-verbosity=0"]);
        command::run(&mut command)?;
    }
    Ok(())
}

/// The targets are formatted and compile, and each file is one of them. Needs neither the nightly toolchain nor a C++ compiler.
pub(crate) fn check(root: &Path) -> Result<()> {
    let manifest = std::fs::read_to_string(root.join(MANIFEST))
        .with_context(|| format!("cannot read {MANIFEST}"))?;
    for target in targets(root)? {
        if !manifest.contains(&format!("name = \"{target}\"\n")) {
            bail!("{MANIFEST}: add a [[bin]] for {TARGETS}/{target}.rs");
        }
    }
    let manifest = ["--manifest-path", MANIFEST];
    let mut format = command::cargo(root);
    command::run(format.arg("fmt").args(manifest).arg("--check"))?;
    let mut command = command::cargo(root);
    command.arg("clippy").args(manifest).arg("--locked");
    command.args(["--no-default-features", "--target-dir", "target/fuzz"]);
    command::run(command.args(["--", "-Dwarnings"]))
}

/// Names of the files, sorted.
fn targets(root: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(root.join(TARGETS))
        .with_context(|| format!("cannot read the folder {TARGETS}"))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix(".rs")?.to_owned())
        })
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("the folder {TARGETS} has no target");
    }
    Ok(names)
}

fn nightly(root: &Path) -> Command {
    let mut command = Command::new("rustup");
    command
        .current_dir(root)
        .args(["run", "nightly", "cargo"])
        .env_remove("CARGO");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_files() {
        let found = targets(&cargo::root()).unwrap();
        assert!(found.contains(&"posenc_rope_config".to_owned()));
        assert!(found.is_sorted());
    }

    #[test]
    fn a_folder_without_targets_is_an_error() {
        assert!(targets(Path::new("no/such/root")).is_err());
    }
}
