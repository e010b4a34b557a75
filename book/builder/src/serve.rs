//! Serves the pages on the loopback address while somebody writes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

/// How long a browser may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Builds, then answers requests until the program is stopped; builds again when a source has changed.
pub(crate) fn run(root: &Path, port: u16, build: impl Fn() -> Result<()>) -> Result<()> {
    build()?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .with_context(|| format!("cannot listen on port {port}; choose another with --port"))?;
    println!(
        "http://{}/en/index.html (Ctrl-C stops)",
        listener.local_addr()?
    );
    let mut built = SystemTime::now();
    for stream in listener.incoming() {
        let stream = stream.context("cannot accept a connection")?;
        if newest(root)? > built {
            built = SystemTime::now();
            // The old pages stay until the slip is mended.
            if let Err(error) = build() {
                eprintln!("error: {error:#}");
            }
        }
        // A browser that hangs up early is no error of ours.
        let _ = answer(stream, &root.join("html"));
    }
    Ok(())
}

/// When the youngest source was changed.
fn newest(root: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut folders = vec![root.join("src"), root.join("po"), root.join("theme")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
        {
            let entry = entry?;
            let data = entry.metadata()?;
            if data.is_dir() {
                folders.push(entry.path());
            } else {
                newest = newest.max(data.modified()?);
            }
        }
    }
    Ok(newest)
}

fn answer(mut stream: TcpStream, root: &Path) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/");
    let found = file(root, path).and_then(|file| Some((std::fs::read(&file).ok()?, kind(&file))));
    let (status, body, kind) = match found {
        Some((body, kind)) => ("200 OK", body, kind),
        None => ("404 Not Found", b"no such page".to_vec(), "text/plain"),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    Ok(())
}

/// The file below the root that a request asks for.
fn file(root: &Path, path: &str) -> Option<PathBuf> {
    let path = path.split(['?', '#']).next()?.trim_start_matches('/');
    if path
        .split('/')
        .any(|part| part == ".." || part.contains(['\\', ':']))
    {
        return None;
    }
    let file = root.join(path);
    Some(if file.is_dir() {
        file.join("index.html")
    } else {
        file
    })
}

fn kind(file: &Path) -> &'static str {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("wasm") => "application/wasm",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stays_below_the_root() {
        let root = Path::new("html");
        assert_eq!(file(root, "/../Cargo.toml"), None);
        assert_eq!(file(root, "/en/../../x"), None);
        assert_eq!(file(root, "/en/a.html?x#y"), Some(root.join("en/a.html")));
    }
}
