//! Judges what happens in a page: what must not happen, and whether something is still on its way.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::chromium::Event;

/// The faults of one page so far, and its requests without an answer.
#[derive(Debug)]
pub(crate) struct Watch {
    origin: String,
    pending: BTreeMap<String, String>,
    pub(crate) loaded: bool,
    /// How many requests there were, answered or not.
    pub(crate) n_requests: usize,
    pub(crate) faults: Vec<String>,
    /// What the page logged that is no fault.
    pub(crate) notes: Vec<String>,
}

impl Watch {
    /// A page may ask only this origin, as `http://127.0.0.1:1234`.
    pub(crate) fn new(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            pending: BTreeMap::new(),
            loaded: false,
            n_requests: 0,
            faults: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// True if the page has loaded and each request has its answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.loaded && self.pending.is_empty()
    }

    /// What keeps the page from being settled.
    pub(crate) fn awaited(&self) -> String {
        let loaded = if self.loaded {
            ""
        } else {
            "the page's load event, "
        };
        let pending: Vec<&str> = self.pending.values().map(String::as_str).collect();
        format!("waiting for {loaded}answers to [{}]", pending.join(", "))
    }

    /// Takes note of an event of this page.
    pub(crate) fn see(&mut self, event: &Event) {
        let params = &event.params;
        match event.method.as_str() {
            "Page.loadEventFired" => self.loaded = true,
            "Runtime.exceptionThrown" => {
                let fault = format!("uncaught {}", exception(&params["exceptionDetails"]));
                self.faults.push(fault);
            }
            "Runtime.consoleAPICalled" => {
                let kind = text(&params["type"]);
                let arguments: Vec<String> = params["args"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(shown)
                    .collect();
                let line = format!("console.{kind}: {}", arguments.join(" "));
                if ["error", "assert"].contains(&kind) {
                    self.faults.push(line);
                } else {
                    self.notes.push(line);
                }
            }
            "Log.entryAdded" => {
                let entry = &params["entry"];
                let line = format!("{}: {}", text(&entry["source"]), text(&entry["text"]));
                // Failed requests are reported below, with their address.
                match text(&entry["level"]) {
                    "error" if text(&entry["source"]) != "network" => self.faults.push(line),
                    "error" => {}
                    _ => self.notes.push(line),
                }
            }
            "Network.requestWillBeSent" => {
                let url = text(&params["request"]["url"]);
                if !self.may_ask(url) {
                    self.faults
                        .push(format!("request to another server: {url}"));
                }
                self.n_requests += 1;
                self.pending
                    .insert(text(&params["requestId"]).to_owned(), url.to_owned());
            }
            "Network.responseReceived" => {
                let response = &params["response"];
                let status = response["status"].as_u64().unwrap_or(0);
                if status >= 400 {
                    let url = text(&response["url"]);
                    self.faults.push(format!("status {status} for {url}"));
                }
            }
            "Network.loadingFinished" => {
                self.pending.remove(text(&params["requestId"]));
            }
            "Network.loadingFailed" => {
                let url = self.pending.remove(text(&params["requestId"]));
                if params["canceled"] != true {
                    let url = url.unwrap_or_default();
                    let error = text(&params["errorText"]);
                    self.faults.push(format!("request failed ({error}): {url}"));
                }
            }
            "Inspector.targetCrashed" => self.faults.push("the page crashed".to_owned()),
            _ => {}
        }
    }

    fn may_ask(&self, url: &str) -> bool {
        let ours = url
            .strip_prefix(&self.origin)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        ours || ["data:", "blob:", "about:"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
    }
}

/// The message of an exception and where it was thrown.
pub(crate) fn exception(details: &Value) -> String {
    let described = text(&details["exception"]["description"]);
    let message = if described.is_empty() {
        let value = &details["exception"]["value"];
        format!("{} {value}", text(&details["text"]))
    } else {
        described.to_owned()
    };
    match details["url"].as_str() {
        Some(url) => format!("{message} ({url}:{})", details["lineNumber"]),
        None => message,
    }
}

/// An argument of `console.log` as text.
fn shown(argument: &Value) -> String {
    match (&argument["value"], argument["description"].as_str()) {
        (Value::String(text), _) => text.clone(),
        (Value::Null, Some(description)) => description.to_owned(),
        (value, _) => value.to_string(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn watch(events: &[(&str, Value)]) -> Watch {
        let mut watch = Watch::new("http://127.0.0.1:80");
        for (method, params) in events {
            watch.see(&Event {
                session: String::new(),
                method: (*method).to_owned(),
                params: params.clone(),
            });
        }
        watch
    }

    fn request(url: &str) -> (&'static str, Value) {
        let params = json!({ "requestId": "1", "request": { "url": url } });
        ("Network.requestWillBeSent", params)
    }

    #[test]
    fn a_page_settles_when_its_last_request_is_answered() {
        let load = ("Page.loadEventFired", json!({}));
        let done = ("Network.loadingFinished", json!({ "requestId": "1" }));
        let ask = request("http://127.0.0.1:80/a.js");
        assert!(!watch(&[load.clone(), ask.clone()]).is_settled());
        assert!(!watch(&[ask.clone(), done.clone()]).is_settled());
        let settled = watch(&[load, ask, done]);
        assert!(settled.is_settled());
        assert_eq!(settled.faults, [""; 0]);
    }

    #[test]
    fn a_request_to_anybody_else_is_a_fault() {
        for url in [
            "https://example.org/a.js",
            "http://127.0.0.1:8080/a.js",
            "http://127.0.0.1:80.example.org/",
            "ws://127.0.0.1:80/",
        ] {
            assert_eq!(
                watch(&[request(url)]).faults,
                [format!("request to another server: {url}")]
            );
        }
        for url in [
            "http://127.0.0.1:80/a.js",
            "data:text/css,",
            "blob:x",
            "http://127.0.0.1:80",
        ] {
            assert_eq!(watch(&[request(url)]).faults, [""; 0], "{url}");
        }
    }

    #[test]
    fn exceptions_errors_in_the_log_and_failed_requests_are_faults() {
        let thrown = json!({ "exceptionDetails": { "exception": { "description": "Error: x" } } });
        let logged = json!({ "type": "error", "args": [{ "value": "no" }, { "value": 7 }] });
        let entry = json!({ "entry": { "source": "security", "level": "error", "text": "t" } });
        let status = json!({ "response": { "status": 404, "url": "u" } });
        let failed = json!({ "requestId": "1", "errorText": "net::ERR" });
        for (method, params, fault) in [
            ("Runtime.exceptionThrown", thrown, "uncaught Error: x"),
            ("Runtime.consoleAPICalled", logged, "console.error: no 7"),
            ("Log.entryAdded", entry, "security: t"),
            ("Network.responseReceived", status, "status 404 for u"),
            (
                "Network.loadingFailed",
                failed,
                "request failed (net::ERR): ",
            ),
            ("Inspector.targetCrashed", json!({}), "the page crashed"),
        ] {
            assert_eq!(watch(&[(method, params)]).faults, [fault]);
        }
    }

    #[test]
    fn warnings_and_canceled_requests_are_none() {
        let logged = json!({ "type": "warning", "args": [{ "value": "careful" }] });
        let canceled =
            json!({ "requestId": "1", "errorText": "net::ERR_ABORTED", "canceled": true });
        let seen = watch(&[
            ("Runtime.consoleAPICalled", logged),
            ("Network.loadingFailed", canceled),
        ]);
        assert_eq!(seen.faults, [""; 0]);
        assert_eq!(seen.notes, ["console.warning: careful"]);
    }
}
