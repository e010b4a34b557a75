//! The peers in Python: one process that gets a case as a line of JSON and its arrays as raw files, and is then told
//! when to run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::case::Peer;
use crate::measure::Contender;

/// The version of candle in Cargo.toml; a test compares it with the lock file.
#[cfg(feature = "peers")]
pub(crate) const CANDLE: &str = "0.11.1";

/// An array for the peers.
pub(crate) struct Input<'a> {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: &'a [f32],
    /// Whether each call gets another copy of it, as our own code does. Tables stay the same.
    pub(crate) rotates: bool,
}

/// A peer with the results that it got on the case's arrays, by name.
pub(crate) struct Opened {
    pub(crate) peer: Peer,
    pub(crate) outputs: BTreeMap<String, Vec<f32>>,
}

/// The process with the peers in Python.
pub(crate) struct Python {
    process: Rc<RefCell<Process>>,
    folder: tempfile::TempDir,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    /// Starts the interpreter on the script that serves peers.
    pub(crate) fn start(interpreter: &Path, script: &Path, threads: usize) -> Result<Self> {
        let mut child = Command::new(interpreter)
            .arg(script)
            .args(["--threads", &threads.to_string()])
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("MKL_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", interpreter.display()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            bail!("the peers' process has no input or output");
        };
        let process = Process {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        Ok(Self {
            process: Rc::new(RefCell::new(process)),
            folder: tempfile::tempdir().context("no temporary folder for the peers' arrays")?,
        })
    }

    /// The peers that have this case, with their results. Closes the case before.
    pub(crate) fn open(
        &self,
        case: [&str; 2],
        params: &Value,
        inputs: &[Input<'_>],
        sets: usize,
    ) -> Result<Vec<Opened>> {
        let mut tensors = Vec::new();
        for input in inputs {
            let file = self.file(input.name);
            let bytes: Vec<u8> = input.data.iter().flat_map(|x| x.to_le_bytes()).collect();
            std::fs::write(&file, bytes)
                .with_context(|| format!("cannot write {}", file.display()))?;
            tensors.push(json!({
                "name": input.name,
                "shape": input.shape,
                "file": file,
                "rotates": input.rotates,
            }));
        }
        let reply = self.process.borrow_mut().ask(&json!({
            "do": "open",
            "crate": case[0],
            "case": case[1],
            "params": params,
            "inputs": tensors,
            "sets": sets,
            "folder": self.folder.path(),
        }))?;
        let peers = reply["peers"]
            .as_array()
            .context("the reply to `open` must list peers")?;
        peers
            .iter()
            .enumerate()
            .map(|(index, peer)| self.opened(index, peer))
            .collect()
    }

    fn opened(&self, index: usize, peer: &Value) -> Result<Opened> {
        let text = |key: &str| -> Result<String> {
            let text = peer[key].as_str();
            Ok(text
                .with_context(|| format!("a peer must have a {key}"))?
                .to_owned())
        };
        let files = peer["outputs"]
            .as_object()
            .context("a peer must have outputs")?;
        let mut outputs = BTreeMap::new();
        for (name, file) in files {
            let file = file.as_str().context("an output must be a file")?;
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
            let (chunks, _) = bytes.as_chunks::<4>();
            let values = chunks.iter().map(|&bytes| f32::from_le_bytes(bytes));
            outputs.insert(name.clone(), values.collect());
        }
        Ok(Opened {
            peer: Peer {
                library: text("library")?,
                version: text("version")?,
                contender: Box::new(Remote {
                    process: Rc::clone(&self.process),
                    index,
                }),
            },
            outputs,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.f32"))
    }
}

impl Process {
    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.stdin, "{request}").context("the peers' process does not listen")?;
        self.stdin.flush()?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the peers' process ended; its last words are above");
        }
        let reply: Value = serde_json::from_str(&line)
            .with_context(|| format!("the peers' process must answer in JSON, got {line}"))?;
        match reply["error"].as_str() {
            Some(error) => bail!("the peers' process: {error}"),
            None => Ok(reply),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One peer of the case that is open.
struct Remote {
    process: Rc<RefCell<Process>>,
    index: usize,
}

impl Contender for Remote {
    fn run(&mut self, calls: usize) -> Result<Duration> {
        let request = json!({ "do": "run", "peer": self.index, "calls": calls });
        let reply = self.process.borrow_mut().ask(&request)?;
        let seconds = reply["seconds"]
            .as_f64()
            .context("the reply to `run` must have seconds")?;
        Ok(Duration::try_from_secs_f64(seconds)?)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(feature = "peers")]
    fn the_version_of_candle_is_that_of_the_lock_file() {
        let lock = include_str!("../../Cargo.lock");
        let entry = format!("name = \"candle-nn\"\nversion = \"{}\"\n", super::CANDLE);
        assert!(lock.contains(&entry));
    }
}
