//! Serves a folder to the browser on the same machine.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long a browser may take to send its request: it opens connections in advance.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on 127.0.0.1 that stops when it is dropped.
///
/// It answers one request per connection, each in a thread of its own. A server that keeps connections open and has a
/// limited number of threads for them can leave one without a thread, and the page that waits for it never loads.
pub(crate) struct Folder {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: String,
}

impl Folder {
    /// Serves the files below `root` on a free port.
    pub(crate) fn serve(root: &Path) -> Result<Self> {
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot serve {}", root.display()))?;
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?.to_string();
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stopped = Arc::clone(&stopped);
            let root = Arc::new(root);
            move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let root = Arc::clone(&root);
                    // The browser may have gone; that is no error of the server.
                    std::thread::spawn(move || stream.and_then(|stream| answer(&stream, &root)));
                }
            }
        });
        Ok(Self {
            stopped,
            thread: Some(thread),
            address,
        })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread, which waits for a connection.
        if TcpStream::connect(&self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: &TcpStream, root: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream).lines();
    let Some(request) = lines.next().transpose()? else {
        return Ok(()); // a connection that was not needed
    };
    // The rest of the head must be read, or closing would discard the answer.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let url = request.split(' ').nth(1).unwrap_or_default();
    let found = file_of(root, url).and_then(|path| Some((std::fs::read(&path).ok()?, path)));
    let (status, kind, body) = match found {
        Some((body, path)) => ("200 OK", media_type(&path), body),
        // A browser asks for it unasked.
        None if url == "/favicon.ico" => ("204 No Content", "image/x-icon", Vec::new()),
        None => {
            let text = format!("no file {url}\n");
            ("404 Not Found", "text/plain", text.into_bytes())
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    stream.shutdown(Shutdown::Write)
}

/// The file that an address means: without its query, a folder's `index.html`, and nothing outside the root.
fn file_of(root: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?.strip_prefix('/')?;
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !plain {
        return None;
    }
    let mut file = root.join(path);
    if file.is_dir() {
        file.push("index.html");
    }
    file.is_file().then_some(file)
}

/// A browser refuses modules and WebAssembly of another type.
fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("woff") => "font/woff",
        Some("ttf") => "font/ttf",
        Some("txt" | "md" | "wgsl") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_a_file_below_the_root_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("chapter")).unwrap();
        for file in ["a.html", "chapter/index.html", "../secret.txt"] {
            std::fs::write(root.join(file), "x").unwrap();
        }
        assert_eq!(file_of(&root, "/a.html?x=1"), Some(root.join("a.html")));
        assert_eq!(
            file_of(&root, "/chapter/"),
            Some(root.join("chapter/index.html"))
        );
        for refused in [
            "/../secret.txt",
            "/chapter/../../secret.txt",
            "//etc/hosts",
            "/b.html",
            "/",
            "a.html",
        ] {
            assert_eq!(file_of(&root, refused), None, "{refused}");
        }
    }

    #[test]
    fn modules_and_web_assembly_have_the_type_that_browsers_ask_for() {
        assert_eq!(media_type(Path::new("a_bg.wasm")), "application/wasm");
        assert!(media_type(Path::new("a.js")).starts_with("text/javascript"));
        assert_eq!(media_type(Path::new("a.svg")), "image/svg+xml");
    }
}
