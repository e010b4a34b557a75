//! The virtual environment with the pinned Python packages, which the generators of vectors and the peers of the
//! benches share.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

const VENV: &str = ".vectors-venv";
const REQUIREMENTS: &str = "xtask/vectors/requirements.txt";

/// Makes the virtual environment if the pinned packages changed since, and returns its interpreter.
pub(crate) fn environment(root: &Path) -> Result<PathBuf> {
    let venv = root.join(VENV);
    let python = venv.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    let wanted = std::fs::read_to_string(root.join(REQUIREMENTS))
        .with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    let installed = venv.join("installed.txt");
    if python.is_file() && std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
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
    command::run(Command::new(&python).current_dir(root).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--requirement",
        REQUIREMENTS,
    ]))?;
    std::fs::write(&installed, wanted)
        .with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}
