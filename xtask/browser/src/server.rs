//! Serves a folder to the browser on the same machine.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use tiny_http::{Header, Request, Response, Server};

/// A server on 127.0.0.1 that stops when it is dropped.
pub(crate) struct Folder {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
    origin: String,
}

impl Folder {
    /// Serves the files below `root` on a free port.
    pub(crate) fn serve(root: &Path) -> Result<Self> {
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot serve {}", root.display()))?;
        let server = Server::http("127.0.0.1:0")
            .map_err(|error| anyhow!("cannot listen on 127.0.0.1: {error}"))?;
        let port = server
            .server_addr()
            .to_ip()
            .context("the server has no port")?
            .port();
        let server = Arc::new(server);
        let thread = std::thread::spawn({
            let server = Arc::clone(&server);
            move || {
                let root = Arc::new(root);
                for request in server.incoming_requests() {
                    // One thread each: a connection that the browser does not read at the moment must not hold up the others.
                    let root = Arc::clone(&root);
                    std::thread::spawn(move || {
                        // The browser may have gone; that is no error of the server.
                        let _ = answer(request, &root);
                    });
                }
            }
        });
        Ok(Self {
            server,
            thread: Some(thread),
            origin: format!("http://127.0.0.1:{port}"),
        })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(request: Request, root: &Path) -> io::Result<()> {
    let found = file_of(root, request.url()).and_then(|path| Some((File::open(&path).ok()?, path)));
    match found {
        Some((file, path)) => {
            let mut response = Response::from_file(file);
            for (name, value) in [
                ("Content-Type", media_type(&path)),
                ("Cache-Control", "no-store"),
            ] {
                if let Ok(header) = Header::from_bytes(name, value) {
                    response.add_header(header);
                }
            }
            request.respond(response)
        }
        // A browser asks for it unasked.
        None if request.url() == "/favicon.ico" => request.respond(Response::empty(204)),
        None => {
            let text = format!("no file {}\n", request.url());
            request.respond(Response::from_string(text).with_status_code(404))
        }
    }
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
