//! Opens pages one after the other and says what their scripts returned.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::chromium::{self, Chromium};
use crate::server::Folder;
use crate::watch::{self, Watch};

/// How a page is shown, and what is done with it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Body of an async function that runs once the page has loaded; its value must be JSON.
    pub script: Option<String>,
    /// Where to write a picture of the (last) page, as PNG.
    pub screenshot: Option<PathBuf>,
    /// Width of the window in pixels.
    pub width: u32,
    /// Height of the window in pixels.
    pub height: u32,
    /// Whether the page should think that its reader prefers dark colors.
    pub dark: bool,
    /// For each page, from the start of Chromium or of the page to the picture.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            script: None,
            screenshot: None,
            width: 1000,
            height: 800,
            dark: false,
            timeout: Duration::from_secs(60),
        }
    }
}

/// Serves `root`, opens each of `pages` (paths below it, with a query if wanted), runs the script in each and returns
/// the values. What pages log goes to the error output.
///
/// # Errors
///
/// If there is no Chromium, a page does not settle in time, or something happens in a page that must not: an uncaught
/// exception, an error in the console, a request that fails or goes to another server.
pub fn open(root: &Path, pages: &[String], options: &Options) -> Result<Vec<Value>> {
    let folder = Folder::serve(root)?;
    let mut chromium = Chromium::start(&chromium::find()?, options.timeout)?;
    pages
        .iter()
        .map(|page| {
            chromium.set_deadline(Instant::now() + options.timeout);
            let url = format!("{}/{}", folder.origin(), page.trim_start_matches('/'));
            visit(&mut chromium, &folder.origin(), &url, options).with_context(|| page.clone())
        })
        .collect()
}

/// A pause in which a page's own tasks run.
const MOMENT: &str = "await new Promise((resolve) => setTimeout(resolve, 100));";

fn visit(chromium: &mut Chromium, origin: &str, url: &str, options: &Options) -> Result<Value> {
    let target = chromium.call("", "Target.createTarget", &json!({ "url": "about:blank" }))?;
    let target_id = &target["targetId"];
    let attach = json!({ "targetId": target_id, "flatten": true });
    let attached = chromium.call("", "Target.attachToTarget", &attach)?;
    let session = attached["sessionId"]
        .as_str()
        .context("Chromium gave no session")?
        .to_owned();
    let mut watch = Watch::new(origin);
    let value = work(chromium, &session, &mut watch, url, options);
    see_all(chromium, &session, &mut watch);
    for note in &watch.notes {
        eprintln!("{note}");
    }
    if !watch.faults.is_empty() {
        if let Err(error) = value {
            watch.faults.push(format!("{error:#}"));
        }
        bail!("{}", watch.faults.join("\n"));
    }
    let value = value?;
    chromium.call("", "Target.closeTarget", &json!({ "targetId": target_id }))?;
    Ok(value)
}

fn work(
    chromium: &mut Chromium,
    session: &str,
    watch: &mut Watch,
    url: &str,
    options: &Options,
) -> Result<Value> {
    for domain in ["Page", "Runtime", "Log", "Network", "Inspector"] {
        chromium.call(session, &format!("{domain}.enable"), &json!({}))?;
    }
    let metrics = json!({
        "width": options.width,
        "height": options.height,
        "deviceScaleFactor": 1,
        "mobile": false,
    });
    chromium.call(session, "Emulation.setDeviceMetricsOverride", &metrics)?;
    let scheme = if options.dark { "dark" } else { "light" };
    let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    chromium.call(session, "Emulation.setEmulatedMedia", &media)?;

    let gone = chromium.call(session, "Page.navigate", &json!({ "url": url }))?;
    if let Some(error) = gone["errorText"].as_str() {
        bail!("cannot open {url}: {error}");
    }
    settle(chromium, session, watch)?;
    let mut value = Value::Null;
    if let Some(script) = &options.script {
        value = evaluate(chromium, session, script)?;
        settle(chromium, session, watch)?;
    }
    if let Some(path) = &options.screenshot {
        let picture = chromium.call(session, "Page.captureScreenshot", &json!({}))?;
        let data = picture["data"]
            .as_str()
            .context("Chromium gave no picture")?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(data)?;
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(value)
}

/// Waits until the page has loaded, each of its requests is answered, and no new one comes for a moment: a script
/// may import another when it has run.
fn settle(chromium: &mut Chromium, session: &str, watch: &mut Watch) -> Result<()> {
    loop {
        while !watch.is_settled() {
            let event = chromium
                .event("end of the page's requests")
                .with_context(|| watch.awaited())?;
            if event.session == session {
                watch.see(&event);
            }
        }
        let before = watch.n_requests;
        evaluate(chromium, session, MOMENT)?;
        see_all(chromium, session, watch);
        if watch.is_settled() && watch.n_requests == before {
            return Ok(());
        }
    }
}

fn see_all(chromium: &mut Chromium, session: &str, watch: &mut Watch) {
    while let Some(event) = chromium.event_now() {
        if event.session == session {
            watch.see(&event);
        }
    }
}

fn evaluate(chromium: &mut Chromium, session: &str, script: &str) -> Result<Value> {
    let params = json!({
        "expression": format!("(async () => {{\n{script}\n}})()"),
        "awaitPromise": true,
        "returnByValue": true,
    });
    let mut outcome = chromium.call(session, "Runtime.evaluate", &params)?;
    if let Some(details) = outcome.get("exceptionDetails") {
        bail!("the script threw {}", watch::exception(details));
    }
    Ok(outcome["result"]["value"].take())
}
