//! Code on a page comes from files: what is included must be there, and nothing is typed in between.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::scan::{self, Line};

/// Languages whose blocks may only include files.
const INCLUDED: [&str; 4] = ["rust", "wgsl", "diff", "js"];

/// Fails if an include names a file or an anchor that is missing or empty, or if code is typed into the page.
///
/// `folder` is the folder of the page.
pub(crate) fn check(page: &str, folder: &Path) -> Result<()> {
    let mut typed = false;
    for (index, line) in scan::lines(page).enumerate() {
        let number = index + 1;
        if let Line::Open { language, .. } = line {
            typed = INCLUDED.contains(&language);
        }
        let text = match line {
            Line::Text(text) | Line::Code(text) => text,
            Line::Open { .. } | Line::Close(_) => continue,
        };
        let includes = includes(text);
        if typed && matches!(line, Line::Code(_)) && includes.is_empty() && !text.trim().is_empty()
        {
            bail!("line {number}: include code from a compiled file, do not type it: {text}");
        }
        for include in includes {
            included(include, folder).with_context(|| format!("line {number}: {text}"))?;
        }
    }
    Ok(())
}

/// The arguments of the includes in a line.
fn includes(line: &str) -> Vec<&str> {
    line.split("{{#include ")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("}}")?.0.trim()))
        .collect()
}

fn included(include: &str, folder: &Path) -> Result<()> {
    let (path, anchor) = match include.split_once(':') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (include, None),
    };
    let text = std::fs::read_to_string(folder.join(path))
        .with_context(|| format!("the included file {path} cannot be read"))?;
    let shown = match anchor {
        None => text,
        Some(anchor) if anchor.starts_with(|c: char| c.is_ascii_digit() || c == ':') => {
            bail!("include by anchor, not by line numbers, got {anchor}")
        }
        Some(anchor) => anchored(&text, anchor)
            .with_context(|| format!("{path} must have the anchor `{anchor}` with its end"))?,
    };
    if shown.trim().is_empty() {
        bail!("what is included is empty");
    }
    Ok(())
}

/// The lines between an anchor and its end, other anchors left out.
fn anchored(text: &str, anchor: &str) -> Option<String> {
    let marks = |line: &str, word: &str| {
        line.split_once(word)
            .is_some_and(|(_, name)| name.trim() == anchor)
    };
    let mut shown = String::new();
    let mut lines = text.lines();
    lines.find(|line| marks(line, "ANCHOR:"))?;
    for line in lines {
        if marks(line, "ANCHOR_END:") {
            return Some(shown);
        }
        if !line.contains("ANCHOR:") && !line.contains("ANCHOR_END:") {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(page: &str) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let file = "a\n// ANCHOR: x\nb\n// ANCHOR_END: x\n// ANCHOR: empty\n\n// ANCHOR_END: empty\n// ANCHOR: open\nc\n";
        std::fs::write(folder.path().join("a.rs"), file).unwrap();
        std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
        check(page, folder.path())
    }

    #[test]
    fn an_anchor_with_text_and_a_whole_file_are_fine() {
        checked("```rust\n{{#include a.rs:x}}\n```\n{{#include a.rs}}\n").unwrap();
        checked("```sh\ncargo test\n```\n").unwrap();
    }

    #[test]
    fn what_is_missing_or_empty_is_refused() {
        for include in [
            "b.rs",
            "a.rs:y",
            "a.rs:empty",
            "a.rs:open",
            "empty.txt",
            "a.rs:1:2",
        ] {
            let page = format!("```rust\n{{{{#include {include}}}}}\n```\n");
            assert!(checked(&page).is_err(), "{include}");
        }
    }

    #[test]
    fn typed_code_is_refused() {
        let error = checked("```rust\nlet x = 1;\n```\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("line 2: include code"), "{error}");
    }
}
