//! A headless Chromium as a child process, and the `DevTools` protocol through two pipes.
//!
//! The messages go through pipes and not through a port: there is nothing to find, nobody else can connect, and a
//! Chromium whose pipe closes ends by itself, so none survives us, however we end.

use std::collections::VecDeque;
use std::env;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The environment variable that says which Chromium to use.
pub const VARIABLE: &str = "CHROMIUM";

/// The names under which it is installed.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// No sandbox, since containers run as root and the only pages are ours; no other server, and nothing in the background.
const FLAGS: [&str; 17] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--enable-unsafe-webgpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
];

/// Puts the pipes where Chromium looks for them, and nothing else: `$0` is Chromium, `$@` its flags.
const SHELL: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

/// How long it may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// The Chromium of the variable [`VARIABLE`], else the first on the path.
///
/// # Errors
///
/// If there is none.
pub fn find() -> Result<PathBuf> {
    if let Some(set) = env::var_os(VARIABLE) {
        let path = PathBuf::from(set);
        if path.is_file() {
            return Ok(path);
        }
        bail!("{VARIABLE} must name a program, got {}", path.display());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    NAMES
        .iter()
        .flat_map(|name| env::split_paths(&folders).map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
        .with_context(|| {
            format!("no Chromium on the path; install one (Debian: `apt-get install chromium`) or set {VARIABLE}")
        })
}

/// A running Chromium. It ends when this is dropped.
pub(crate) struct Chromium {
    child: Child,
    /// Its end closes when it is dropped, which also ends Chromium.
    commands: Option<ChildStdin>,
    messages: Receiver<Value>,
    /// Events that came while an answer was awaited.
    events: VecDeque<Event>,
    last_id: u64,
    deadline: Instant,
    timeout: Duration,
    /// Profile and error output, removed at the end.
    folder: TempDir,
}

/// Something that happened in a page.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) session: String,
    pub(crate) method: String,
    pub(crate) params: Value,
}

impl Chromium {
    /// Starts a Chromium with an empty profile. Nothing takes longer than `timeout` from now on.
    pub(crate) fn start(program: &Path, timeout: Duration) -> Result<Self> {
        let folder = TempDir::with_prefix("llm-blocks-chromium-")?;
        let errors = File::create(folder.path().join("stderr.txt"))?;
        let mut child = Command::new("sh")
            .args(["-c", SHELL])
            .arg(program)
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .arg("about:blank")
            // Nothing is read from or left in the home folder.
            .envs(
                ["RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME"]
                    .map(|name| (format!("XDG_{name}"), folder.path())),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {} with `sh`", program.display()))?;
        let commands = child.stdin.take();
        let output = child.stdout.take().context("Chromium has no output")?;
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || read(output, &sender));
        Ok(Self {
            child,
            commands,
            messages,
            events: VecDeque::new(),
            last_id: 0,
            deadline: Instant::now() + timeout,
            timeout,
            folder,
        })
    }

    /// From now until this moment is the time for the next page.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Sends a command and waits for its answer. The session is that of a page, or empty for the browser itself.
    pub(crate) fn call(&mut self, session: &str, method: &str, params: &Value) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let commands = self.commands.as_mut().context("Chromium is closed")?;
        if let Err(error) = commands.write_all(&bytes).and_then(|()| commands.flush()) {
            bail!("Chromium takes no command: {error}{}", self.errors());
        }
        loop {
            let mut message = self.next_message(method)?;
            if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("{method} failed: {error}");
                }
                return Ok(message["result"].take());
            }
            self.events.extend(event(message));
        }
    }

    /// The next event, waiting for it.
    pub(crate) fn event(&mut self, awaited: &str) -> Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let message = self.next_message(awaited)?;
            self.events.extend(event(message));
        }
    }

    /// The next event that has already come.
    pub(crate) fn event_now(&mut self) -> Option<Event> {
        while let Ok(message) = self.messages.try_recv() {
            self.events.extend(event(message));
        }
        self.events.pop_front()
    }

    fn next_message(&self, awaited: &str) -> Result<Value> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.messages.recv_timeout(left) {
            Ok(message) => Ok(message),
            Err(RecvTimeoutError::Timeout) => {
                bail!("no {awaited} within {} s", self.timeout.as_secs_f64())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!(
                    "Chromium ended while {awaited} was awaited{}",
                    self.errors()
                )
            }
        }
    }

    /// The end of what Chromium wrote to its error output.
    fn errors(&self) -> String {
        let text =
            std::fs::read_to_string(self.folder.path().join("stderr.txt")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(8)..];
        if last.is_empty() {
            return String::new();
        }
        format!("; it wrote:\n{}", last.join("\n"))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The closed pipe tells it to end; what does not listen is killed.
        self.commands = None;
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands on the messages, which end with a zero byte, until Chromium ends.
fn read(output: ChildStdout, sender: &mpsc::Sender<Value>) {
    let mut output = BufReader::new(output);
    loop {
        let mut bytes = Vec::new();
        match output.read_until(0, &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        bytes.pop();
        let Ok(message) = serde_json::from_slice(&bytes) else {
            return;
        };
        if sender.send(message).is_err() {
            return;
        }
    }
}

fn event(mut message: Value) -> Option<Event> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Event {
        session: text(&message["sessionId"]).unwrap_or_default(),
        method: text(&message["method"])?,
        params: message["params"].take(),
    })
}
