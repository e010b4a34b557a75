//! `cargo xtask gpu browser`: every portable kernel through a browser's strict compiler, and a parity test in it.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::browser::{self, Visit};
use crate::cargo;

const PACKAGE: &str = "llm-gpu-browser";
const FOLDER: &str = "crates/gpu/browser";

/// Runs the lane.
pub(crate) fn run() -> Result<()> {
    let root = cargo::root();
    let out = root.join("target/gpu-browser");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    browser::module(&root, PACKAGE, &out)?;
    let read = |name: &str| {
        let path = root.join(FOLDER).join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    std::fs::write(out.join("index.html"), read("index.html")?)?;
    let visit = Visit {
        root: &out,
        pages: &["index.html"],
        script: &read("check.js")?,
        timeout: 300,
    };
    let seen = browser::visit(&root, &visit)?;
    let (report, problems) = judge(&seen[0])?;
    println!("{report}");
    match problems.len() {
        0 => Ok(()),
        n => bail!(
            "the browser found {n} problem{}:\n{}",
            if n == 1 { "" } else { "s" },
            problems.join("\n")
        ),
    }
}

/// What the page saw, in words, and what is wrong with it.
fn judge(seen: &Value) -> Result<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut problems = Vec::new();
    let (mut compiled, mut left_out) = (0, Vec::new());
    for shader in list(seen, "shaders")? {
        let name = format!("{} {}", text(&shader["package"]), text(&shader["name"]));
        if let Some(missing) = shader["missing"].as_array() {
            let missing: Vec<String> = missing.iter().map(text).collect();
            left_out.push(format!("{name} (needs {})", missing.join(", ")));
        } else if shader["refused"] == false {
            compiled += 1;
        } else {
            problems.push(format!("{name} is refused: {}", shader["messages"]));
        }
    }
    if compiled == 0 {
        problems.push("no kernel was compiled".to_owned());
    }
    if seen["planted"]["refused"] != true {
        let planted = text(&seen["planted"]["name"]);
        problems.push(format!(
            "{planted}, which is wrong, must be refused, and is not"
        ));
    }
    let cases = list(seen, "cases")?;
    let mut largest = 0.0_f64;
    let mut compared = 0;
    for case in cases {
        // NaN is `null` in JSON, and no number.
        let error = case["error"].as_f64().unwrap_or(f64::NAN);
        let tolerance = case["tolerance"]
            .as_f64()
            .context("a case has no tolerance")?;
        compared += case["compared"].as_u64().unwrap_or(0);
        largest = largest.max(error);
        if !(error <= tolerance) {
            let name = text(&case["name"]);
            problems.push(format!("{name}: off by {error:e}, at most {tolerance:e}"));
        }
    }
    if compared == 0 {
        problems.push("nothing was compared".to_owned());
    }
    let mut report = format!(
        "browser ({}): {compiled} kernels compile; {} parity cases, {compared} numbers, largest error {largest:e}",
        text(&seen["adapter"]),
        cases.len()
    );
    if !left_out.is_empty() {
        report += &format!("\nleft out, for want of features: {}", left_out.join(", "));
    }
    Ok((report, problems))
}

fn list<'a>(seen: &'a Value, key: &str) -> Result<&'a [Value]> {
    seen[key]
        .as_array()
        .map(Vec::as_slice)
        .with_context(|| format!("the page returned no list `{key}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "adapter": "a",
            "shaders": [
                { "package": "p", "name": "fine", "refused": false, "messages": [] },
                { "package": "p", "name": "half", "missing": ["shader-f16"] },
            ],
            "planted": { "name": "bad", "refused": true },
            "cases": [{ "name": "c", "compared": 7, "error": 0.5, "tolerance": 1.0 }],
        })
    }

    #[test]
    fn a_good_run_is_reported_with_what_was_left_out() {
        let (report, problems) = judge(&good()).unwrap();
        assert_eq!(problems, [""; 0]);
        assert!(report.contains("1 kernels compile; 1 parity cases, 7 numbers"));
        assert!(report.contains("p half (needs shader-f16)"), "{report}");
    }

    #[test]
    fn each_way_to_be_wrong_is_found() {
        let change = |path: &str, value: Value| {
            let mut seen = good();
            *seen.pointer_mut(path).unwrap() = value;
            judge(&seen).unwrap().1
        };
        let refused = change("/shaders/0/refused", json!(true));
        assert_eq!(refused.len(), 2); // and so none was compiled
        assert!(refused[0].starts_with("p fine is refused"), "{refused:?}");
        for (path, value, problem) in [
            (
                "/planted/refused",
                json!(false),
                "bad, which is wrong, must be refused",
            ),
            ("/cases/0/error", json!(1.5), "c: off by 1.5e0, at most 1e0"),
            ("/cases/0/error", json!(null), "c: off by NaN"),
            ("/cases", json!([]), "nothing was compared"),
            ("/shaders", json!([]), "no kernel was compiled"),
        ] {
            let problems = change(path, value);
            assert_eq!(problems.len(), 1, "{path}");
            assert!(problems[0].starts_with(problem), "{problems:?}");
        }
    }

    #[test]
    fn a_page_that_returns_something_else_is_an_error() {
        assert!(judge(&json!({})).is_err());
    }
}
