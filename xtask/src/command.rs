//! Starts other programs: prints the command line first, turns a failure into an error.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A `cargo` command in the root of the workspace.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root);
    command
}

/// The command line as one would type it in the root.
pub(crate) fn describe(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!(
                "{}={}",
                name.display(),
                quote(&value.to_string_lossy())
            ));
        }
    }
    let program = Path::new(command.get_program());
    let program = match program.file_stem() {
        Some(stem) if stem == "cargo" => "cargo".to_owned(),
        _ => program.display().to_string(),
    };
    words.push(program);
    words.extend(command.get_args().map(|arg| quote(&arg.to_string_lossy())));
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Prints the command, runs it with our own input and output, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    announce(&line);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Like [`run`], and returns what the command printed on standard output, which is shown as it comes.
pub(crate) fn run_and_read(command: &mut Command) -> Result<String> {
    let line = describe(command);
    announce(&line);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        for read in BufReader::new(stdout).lines() {
            let read = read.with_context(|| format!("cannot read what `{line}` prints"))?;
            println!("{read}");
            text.push_str(&read);
            text.push('\n');
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(text)
}

/// Runs a command without showing anything and returns its standard output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{line}` failed ({}):\n{}",
            output.status,
            stderr.trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed invalid UTF-8"))
}

/// True if the program exists and succeeds; used to say how to install what is missing.
pub(crate) fn works(command: &mut Command) -> Result<bool> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => Ok(output.status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot start `{}`", describe(command))),
    }
}

fn announce(line: &str) {
    // One stream for headings and commands, so that a log shows them in order.
    println!("$ {line}");
    let _ = std::io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_can_be_typed_again() {
        let mut command = Command::new("cargo");
        command
            .env("RUSTDOCFLAGS", "-Dwarnings")
            .args(["run", "--", "chat", "it's 1 + 1"]);
        assert_eq!(
            describe(&command),
            r"RUSTDOCFLAGS=-Dwarnings cargo run -- chat 'it'\''s 1 + 1'"
        );
    }

    #[test]
    fn a_failing_command_is_an_error() {
        let error = run(Command::new("cargo").arg("no-such-verb-of-cargo")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`cargo no-such-verb-of-cargo` failed"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_program_does_not_work_but_is_no_error() {
        assert!(!works(&mut Command::new("no-such-program-anywhere")).unwrap());
    }
}
