//! Code on a page comes from files: what is included must be there, and nothing is typed in between.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::scan::{self, Line};

/// Languages whose blocks may only include files.
const INCLUDED: [&str; 4] = ["rust", "wgsl", "diff", "js"];

/// Puts the included files, or the lines between their anchors, into the page.
///
/// Fails if an include names a file or an anchor that is missing or empty, if it does not stand alone on its line, or if code is
/// typed into the page. `folder` is the folder of the page.
pub(crate) fn include(page: &str, folder: &Path) -> Result<String> {
    let mut out = String::with_capacity(page.len());
    let mut typed = false;
    for (index, line) in scan::lines(page).enumerate() {
        let (text, is_code) = match line {
            Line::Open { line, language } => {
                typed = INCLUDED.contains(&language);
                (line, false)
            }
            Line::Close(line) | Line::Text(line) => (line, false),
            Line::Code(line) => (line, true),
        };
        let number = index + 1;
        match argument(text) {
            Some(argument) => {
                let shown =
                    included(argument, folder).with_context(|| format!("line {number}: {text}"))?;
                out.push_str(&shown);
            }
            None if text.contains("{{#") => {
                bail!("line {number}: an include stands alone on its line, got {text}")
            }
            None if typed && is_code && !text.trim().is_empty() => {
                bail!("line {number}: include code from a compiled file, do not type it: {text}")
            }
            None => {
                out.push_str(text);
                out.push('\n');
            }
        }
    }
    Ok(out)
}

/// The argument of a line that is an include.
fn argument(line: &str) -> Option<&str> {
    Some(
        line.trim()
            .strip_prefix("{{#include ")?
            .strip_suffix("}}")?
            .trim(),
    )
}

fn included(include: &str, folder: &Path) -> Result<String> {
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
    Ok(dedent(&shown))
}

/// The text without the indentation that all of its lines have, and without empty lines around it.
fn dedent(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let indent = lines
        .iter()
        .filter(|line| !line.is_empty())
        .map(|line| line.len() - line.trim_start_matches(' ').len())
        .min()
        .unwrap_or(0);
    let cut: Vec<&str> = lines
        .iter()
        .map(|line| line.get(indent..).unwrap_or_default())
        .collect();
    format!("{}\n", cut.join("\n").trim_matches('\n'))
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

    fn shown(page: &str) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = "a\n// ANCHOR: x\n    b\n\n      c\n// ANCHOR_END: x\n// ANCHOR: empty\n\n// ANCHOR_END: empty\n// ANCHOR: open\nc\n";
        std::fs::write(folder.path().join("a.rs"), file).unwrap();
        std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
        include(page, folder.path())
    }

    #[test]
    fn an_anchor_with_text_and_a_whole_file_are_fine() {
        let page = shown("```rust\n{{#include a.rs:x}}\n```\n").unwrap();
        assert_eq!(page, "```rust\nb\n\n  c\n```\n"); // the common indentation is gone
        assert!(shown("{{#include a.rs}}\n").unwrap().starts_with("a\n"));
        let page = "```sh\ncargo test\n```\n";
        assert_eq!(shown(page).unwrap(), page);
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
            assert!(shown(&page).is_err(), "{include}");
        }
    }

    #[test]
    fn typed_code_is_refused() {
        assert!(shown("see {{#include a.rs:x}} here\n").is_err());
        let error = shown("```rust\nlet x = 1;\n```\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2: include code"), "{error}");
    }
}
