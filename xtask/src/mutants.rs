//! `cargo xtask mutants`: breaks a crate's fast path in many small ways and lists what no test noticed.
//!
//! A law that never fails proves nothing. The references are left alone: they are the oracle.

use anyhow::{Result, bail};

use crate::{cargo, command};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The crate to break, with or without `llm-`
    #[arg(short, long, value_name = "CRATE")]
    package: String,
    /// More arguments for `cargo mutants`: `--list`, `--re apply`, `--jobs 2` …
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
    command.args(["mutants", "--package", &package.name, "--all-features"]);
    for part in ["reference.rs", "reference/**", "testing.rs"] {
        command.args(["--exclude", &format!("{}/src/{part}", package.folder)]);
    }
    command::run(command.args(&args.args))
}
