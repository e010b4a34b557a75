//! `cargo xtask mutants`: breaks a crate's fast path in many small ways and lists what no test noticed.
//!
//! A law that never fails proves nothing. `.cargo/mutants.toml` says what is left alone and why.

use anyhow::{Result, bail};

use crate::cargo::{self, Package};
use crate::command;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The crate to break, with or without `llm-`
    #[arg(short, long, value_name = "CRATE")]
    package: String,
    /// More arguments for `cargo mutants`: `--list`, `--file '**/rope.rs'`, `--shard 1/4`, `--jobs 2` …
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    args: Vec<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cargo::root();
    let packages = cargo::packages(&root)?;
    let package = cargo::find(&packages, &args.package)?;
    if !command::works(command::cargo(&root).args(["mutants", "--version"]))? {
        bail!("`cargo mutants` is missing; install it with: cargo install --locked cargo-mutants");
    }
    let mut command = command::cargo(&root);
    // It works on a copy of what git knows, with a target folder of its own: one that other builds share would mix
    // broken objects with good ones.
    command.env_remove("CARGO_TARGET_DIR");
    command.args(["mutants", "--package", &package.name]);
    command.args(["--features", &features(package)]);
    // `xtask mutants -p posenc -- --list` and without the dashes mean the same.
    let more = match args.args.first() {
        Some(first) if first == "--" => &args.args[1..],
        _ => &args.args[..],
    };
    command::run(command.args(more))
}

/// All but the shaders, whose dependencies take minutes to build and whose code is left alone.
fn features(package: &Package) -> String {
    let some = |feature: &&String| !["default", "gpu"].contains(&feature.as_str());
    let features: Vec<&str> = package.features.iter().filter(some).map(|f| &**f).collect();
    features.join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_feature_is_on_but_the_shaders() {
        let features_of = |names: &[&str]| Package {
            name: "llm-posenc".to_owned(),
            folder: "crates/posenc".to_owned(),
            needs: BTreeMap::new(),
            tests_need: BTreeSet::new(),
            features: names.iter().map(|name| (*name).to_owned()).collect(),
            has_lib: true,
            tests_plain: true,
            has_gpu: false,
        };
        let package = features_of(&["default", "fast", "gpu", "testing"]);
        assert_eq!(features(&package), "fast,testing");
        assert_eq!(features(&features_of(&[])), "");
    }
}
