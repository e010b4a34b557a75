//! Tokens come as they are made, and neither a closed pipe nor Ctrl-C leaves a mess.

use std::io::Read as _;
use std::process::{Child, Command};

use crate::models::endless;
use crate::program::command;

/// A generation that would take minutes, after its first token.
fn started(folder: &tempfile::TempDir, args: &[&str]) -> Child {
    let path = folder.path().to_str().unwrap();
    let long = ["--max-new-tokens", "100000"];
    let mut child = command(&[&["generate", "b", "--model", path], &long[..], args].concat())
        .spawn()
        .unwrap();
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert_eq!(&first, b"a");
    child
}

#[test]
fn tokens_come_before_the_end() {
    let folder = endless(1 << 20);
    let mut child = started(&folder, &[]);
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_closed_pipe_ends_it_silently() {
    let folder = endless(1 << 20);
    let mut child = started(&folder, &[]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");

    for args in [&[][..], &["devices"], &["eval", "-n", "1"], &["--help"]] {
        let mut child = command(args).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(output.stderr, b"", "{args:?}");
    }
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
#[cfg(unix)]
fn an_interrupt_keeps_what_was_made() {
    let folder = endless(1 << 20);
    let child = started(&folder, &[]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(output.stderr, b"");
    let text = String::from_utf8(output.stdout).unwrap();
    let made = text.strip_suffix('\n').unwrap();
    assert!(made.chars().all(|c| c == 'a'), "{made}");
}

#[test]
#[cfg(unix)]
fn an_interrupt_while_waiting_ends_at_once() {
    use std::process::Stdio;
    use std::time::Duration;

    let mut child = command(&["chat"]).stdin(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500)); // until the handler is there
    interrupt(&child);
    let stdin = child.stdin.take(); // stays open
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(output.stdout, b"");
}
