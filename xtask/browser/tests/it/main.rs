//! Pages opened in a real Chromium: what passes, what must fail, and what is left behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use xtask_browser::{Options, VARIABLE, find, open};

/// A folder with one page, or nothing if there is no Chromium and nobody asked for one.
fn folder(body: &str) -> Option<TempDir> {
    if let Err(error) = find() {
        assert!(std::env::var_os(VARIABLE).is_none(), "{error:#}");
        eprintln!("BROWSER-TEST-SKIPPED: {error:#}");
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let page = format!("<!doctype html><html lang=en><title>t</title>{body}");
    std::fs::write(folder.path().join("index.html"), page).expect("written");
    Some(folder)
}

fn script(text: &str) -> Options {
    Options {
        script: Some(text.to_owned()),
        ..Options::default()
    }
}

fn run(folder: &Path, options: &Options) -> Result<serde_json::Value, String> {
    match open(folder, &["index.html".to_owned()], options) {
        Ok(values) => Ok(values.into_iter().next().expect("one value for one page")),
        Err(error) => Err(format!("{error:#}")),
    }
}

#[test]
fn the_value_of_the_script_comes_back() {
    let Some(folder) = folder("<p id=p>7</p><script type=module src=a.js></script>") else {
        return;
    };
    std::fs::write(folder.path().join("a.js"), "globalThis.ready = 1;").unwrap();
    let text = "await new Promise(r => setTimeout(r, 20)); return [+p.textContent, ready, innerWidth, devicePixelRatio];";
    let value = run(folder.path(), &script(text)).unwrap();
    assert_eq!(value, json!([7, 1, 1000, 1]));
}

#[test]
fn a_picture_waits_for_what_scripts_ask_for_later() {
    let Some(folder) = folder("<script>import('./a.js').then(() => import('./b.js'))</script>")
    else {
        return;
    };
    std::fs::write(folder.path().join("a.js"), "").unwrap();
    std::fs::write(folder.path().join("b.js"), "globalThis.ready = 1;").unwrap();
    assert_eq!(run(folder.path(), &script("return ready;")).unwrap(), 1);
}

#[test]
fn several_pages_have_a_value_each() {
    let Some(folder) = folder("") else { return };
    let pages = ["index.html?a", "?b", "/index.html?c"].map(str::to_owned);
    let values = open(folder.path(), &pages, &script("return location.search;")).unwrap();
    assert_eq!(values, ["?a", "?b", "?c"]);
}

#[test]
fn dark_and_the_picture_are_as_asked() {
    let Some(folder) =
        folder("<style>@media (prefers-color-scheme: dark) {body {background: #000}}</style>")
    else {
        return;
    };
    let picture = folder.path().join("p.png");
    let options = Options {
        screenshot: Some(picture.clone()),
        width: 320,
        height: 200,
        dark: true,
        ..script("return getComputedStyle(document.body).backgroundColor;")
    };
    assert_eq!(run(folder.path(), &options).unwrap(), "rgb(0, 0, 0)");
    let bytes = std::fs::read(picture).unwrap();
    assert_eq!(&bytes[..4], b"\x89PNG");
    let side = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((side(16), side(20)), (320, 200));
}

#[test]
fn a_page_that_does_wrong_fails() {
    for (body, fault) in [
        (
            "<script>throw new Error('broken')</script>",
            "uncaught Error: broken",
        ),
        (
            "<script>Promise.reject(new Error('late'))</script>",
            "uncaught Error: late",
        ),
        (
            "<script>console.error('bad', 7)</script>",
            "console.error: bad 7",
        ),
        ("<img src=missing.png>", "status 404 for http://127.0.0.1"),
        (
            "<img src=https://example.org/a.png>",
            "request to another server: https://example.org/a.png",
        ),
        (
            "<script type=module>import './missing.js'</script>",
            "status 404",
        ),
    ] {
        let Some(folder) = folder(body) else { return };
        let error = run(folder.path(), &script("return 1;")).unwrap_err();
        assert!(error.contains(fault), "{body}: {error}");
    }
}

#[test]
fn a_script_that_throws_fails_with_its_message() {
    let Some(folder) = folder("") else { return };
    let error = run(folder.path(), &script("throw new RangeError('seven');")).unwrap_err();
    assert!(
        error.contains("the script threw RangeError: seven"),
        "{error}"
    );
    let error = run(folder.path(), &script("return (;")).unwrap_err();
    assert!(error.contains("SyntaxError"), "{error}");
}

#[test]
fn a_missing_page_fails() {
    let Some(folder) = folder("") else { return };
    let error = open(folder.path(), &["b.html".to_owned()], &Options::default()).unwrap_err();
    assert!(format!("{error:#}").contains("status 404"), "{error:#}");
}

/// The program on a page that never answers, with its own folder for temporary files.
fn hang(folder: &Path, timeout: &str) -> Child {
    let script = folder.join("hang.js");
    std::fs::write(&script, "for (;;) {}").expect("written");
    Command::new(env!("CARGO_BIN_EXE_xtask-browser"))
        .args([
            "run",
            "--page",
            "index.html",
            "--timeout",
            timeout,
            "--root",
        ])
        .arg(folder)
        .arg("--script")
        .arg(script)
        .env("TMPDIR", folder)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program of this package")
}

/// How many processes have the folder in their command lines; nothing where there is no `/proc`.
fn processes_of(folder: &Path) -> Option<usize> {
    let name = folder.to_str().expect("a path in UTF-8").as_bytes();
    let has_name = |line: Vec<u8>| line.windows(name.len()).any(|part| part == name);
    let lines = std::fs::read_dir("/proc").ok()?.flatten();
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    Some(lines.filter(|line| has_name(line.clone())).count())
}

fn wait_until_none(folder: &Path) {
    let begin = Instant::now();
    while processes_of(folder).is_some_and(|n| n > 0) {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "a process is left"
        );
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_page_that_hangs_ends_in_time_and_leaves_nothing() {
    let Some(folder) = folder("") else { return };
    let output = hang(folder.path(), "4").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no Runtime.evaluate within 4 s"), "{error}");
    wait_until_none(folder.path());
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "the page, the script, and no profile");
}

#[test]
fn no_chromium_survives_us_even_if_we_are_killed() {
    let Some(folder) = folder("") else { return };
    let mut child = hang(folder.path(), "60");
    let begin = Instant::now();
    // The program itself and several of Chromium's processes.
    while processes_of(folder.path()).is_some_and(|n| n < 4) {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "it did not start"
        );
        sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until_none(folder.path());
}

#[test]
fn a_browser_has_web_gpu() {
    let Some(folder) = folder("") else { return };
    let text = "return (await navigator.gpu.requestAdapter()) !== null;";
    assert_eq!(run(folder.path(), &script(text)).unwrap(), json!(true));
}
