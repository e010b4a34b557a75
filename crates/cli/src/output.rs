//! Standard output and standard error, neither of which may panic when nobody reads them.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use crate::failure::Failure;

/// Writes a text at once, without a line break.
pub(crate) fn text(text: &str) -> io::Result<()> {
    bytes(text.as_bytes())
}

/// Writes bytes that are no text.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes a line.
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{line}\n"))?;
    Ok(())
}

/// Writes a JSON object.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    line(&format!("{value:#}"))
}

/// Writes a line to standard error.
pub(crate) fn note(line: &str) {
    // If that is closed too, there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a line to standard error if a person may be watching.
pub(crate) fn remark(line: &str, quiet: bool) {
    if !quiet && io::stderr().is_terminal() {
        note(line);
    }
}
