//! The virtual environment with the pinned Python packages, which the generators of vectors and the peers of the
//! benches share.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

const VENV: &str = ".vectors-venv";
const REQUIREMENTS: &str = "xtask/vectors/requirements.txt";
const COMPILED: &str = "xtask/peers/requirements.txt";

/// Makes the virtual environment if the pinned packages changed since, and returns its interpreter.
pub(crate) fn environment(root: &Path) -> Result<PathBuf> {
    let venv = root.join(VENV);
    let python = venv.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    if python.is_file() && is_installed(root, REQUIREMENTS)? {
        return Ok(python);
    }
    let system = if cfg!(windows) { "python" } else { "python3" };
    if !command::works(Command::new(system).args(["-c", "import venv, ensurepip"]))? {
        bail!(
            "`{system}` with the modules `venv` and `ensurepip` is missing; \
             install Python 3 (on Debian: apt-get install python3-venv)"
        );
    }
    command::run(
        Command::new(system)
            .current_dir(root)
            .args(["-m", "venv", VENV]),
    )?;
    install(root, &python, REQUIREMENTS)?;
    Ok(python)
}

/// Adds the peers of the benches that are compiled, unless they are there.
pub(crate) fn add_compiled_peers(root: &Path, python: &Path) -> Result<()> {
    if is_installed(root, COMPILED)? {
        return Ok(());
    }
    install(root, python, COMPILED)
}

fn install(root: &Path, python: &Path, requirements: &str) -> Result<()> {
    let pip = ["-m", "pip", "install", "--quiet", "--requirement"];
    command::run(
        Command::new(python)
            .current_dir(root)
            .args(pip)
            .arg(requirements),
    )?;
    let stamp = stamp(root, requirements);
    std::fs::copy(root.join(requirements), &stamp)
        .with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(())
}

/// Whether the environment has what the file says now.
fn is_installed(root: &Path, requirements: &str) -> Result<bool> {
    let wanted = std::fs::read_to_string(root.join(requirements))
        .with_context(|| format!("cannot read {requirements}"))?;
    let installed = std::fs::read_to_string(stamp(root, requirements));
    Ok(installed.is_ok_and(|text| text == wanted))
}

/// A copy of the file at the time when it was installed.
fn stamp(root: &Path, requirements: &str) -> PathBuf {
    let name = if requirements == COMPILED {
        "installed-peers.txt"
    } else {
        "installed.txt"
    };
    root.join(VENV).join(name)
}
