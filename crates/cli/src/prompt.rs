//! The prompt: an argument, or standard input.

use std::io::{self, IsTerminal as _, Read as _};

use crate::failure::Failure;

/// No model here takes a prompt of so many bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The argument; else all of standard input if that is no terminal; else nothing.
pub(crate) fn given(argument: Option<&str>) -> Result<Option<String>, Failure> {
    let prompt = match argument {
        Some(prompt) => prompt.to_owned(),
        None if io::stdin().is_terminal() => return Ok(None),
        None => read()?,
    };
    check(&prompt)?;
    Ok(Some(prompt))
}

/// Refuses a prompt that says nothing.
pub(crate) fn check(prompt: &str) -> Result<(), Failure> {
    if prompt.trim().is_empty() {
        return Err(Failure::usage("the prompt must not be empty")
            .with_hint("give it as an argument in quotes, or on standard input"));
    }
    Ok(())
}

fn read() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::failed(format!("cannot read the prompt: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("the prompt must have at most {MAX_BYTES} bytes, got more");
        return Err(Failure::usage(message));
    }
    let prompt = String::from_utf8(bytes)
        .map_err(|_| Failure::usage("the prompt must be UTF-8, got other bytes"))?;
    // The line break at the end belongs to the shell, not to the prompt.
    Ok(prompt.trim_end_matches(['\n', '\r']).to_owned())
}
