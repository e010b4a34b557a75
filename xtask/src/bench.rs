//! `cargo xtask bench`: our figures beside the limit of the machine and beside other libraries.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{cargo, command, python};

/// The package with the cases. Its feature `peers` brings along hundreds of crates, so verbs that turn on every feature
/// of the workspace leave this package out.
pub(crate) const PACKAGE: &str = "llm-blocks-benches";
const SCRIPT: &str = "xtask/peers/serve.py";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this crate, with or without `llm-`
    #[arg(value_name = "CRATE")]
    package: Option<String>,
    /// Also time other libraries: candle, and those in Python, whose environment is made if it is missing
    #[arg(long)]
    peers: bool,
    /// Add llama.cpp to these for good; it is compiled, which takes minutes and a C++ compiler
    #[arg(long, requires = "peers")]
    llama_cpp: bool,
    /// Fail if a figure misses what is asked of it; only on a machine that has nothing else to do
    #[arg(long)]
    strict: bool,
    /// Write every sample to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// Samples of each contender
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Threads of everybody; as many as the machine has unless set
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cargo::root();
    let package = match &args.package {
        Some(name) => Some(
            cargo::find(&cargo::packages(&root)?, name)?
                .folder
                .replace("crates/", ""),
        ),
        None => None,
    };
    let python = if args.peers {
        let python = python::environment(&root)?;
        if args.llama_cpp {
            python::add_compiled_peers(&root, &python)?;
        }
        Some(python)
    } else {
        None
    };
    let mut command = command::cargo(&root);
    if let Some(threads) = args.threads {
        command.env("RAYON_NUM_THREADS", threads.to_string());
    }
    command.args(["run", "--release", "--package", PACKAGE]);
    if args.peers {
        command.args(["--features", "peers"]);
    }
    command.arg("--");
    command.args(package);
    command.args(["--rounds", &args.rounds.to_string()]);
    if args.strict {
        command.arg("--strict");
    }
    if let Some(case) = &args.case {
        command.args(["--case", case]);
    }
    if let Some(file) = &args.json {
        command.arg("--json").arg(absolute(file)?);
    }
    if let Some(python) = python {
        command.arg("--python").args([&python, Path::new(SCRIPT)]);
    }
    command::run(&mut command)
}

/// As seen from where the verb was called; the program runs in the root.
fn absolute(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).with_context(|| format!("cannot resolve {}", file.display()))
}
