//! Rules about the text of single files.

use crate::tree::{Finding, Tree};

/// Longest source file of a crate.
const MOST_LINES: usize = 600;

/// Endings of files that we write by hand and that our editors must not litter.
const HAND_WRITTEN: [&str; 10] = [
    ".rs", ".md", ".toml", ".yml", ".yaml", ".py", ".sh", ".wgsl", ".js", ".css",
];

fn is_hand_written(path: &str) -> bool {
    HAND_WRITTEN.iter().any(|ending| path.ends_with(ending))
        || [".ci/run", ".gitignore", ".gitattributes", ".editorconfig"].contains(&path)
}

/// Every Rust file says what it is for, on its first line: in words, or with the README as its words.
pub(super) fn module_docs(tree: &Tree) -> Vec<Finding> {
    tree.texts()
        .filter(|(path, _)| path.ends_with(".rs"))
        .filter(|(_, text)| {
            let first = text.lines().next().unwrap_or_default();
            let is_doc = first.starts_with("//! ")
                || (first.starts_with("#![") && first.contains("doc = include_str!("));
            !is_doc
        })
        .map(|(path, _)| {
            Finding::at(
                path,
                1,
                "start the file with a `//!` line that says what it is for",
            )
        })
        .collect()
}

/// No white space at the ends of lines, Unix line ends, one newline at the end.
pub(super) fn whitespace(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| is_hand_written(path)) {
        for (index, line) in text.split('\n').enumerate() {
            if line.ends_with('\r') {
                findings.push(Finding::at(path, index + 1, "use Unix line ends (LF)"));
            } else if line.ends_with([' ', '\t']) {
                findings.push(Finding::at(
                    path,
                    index + 1,
                    "remove the white space at the end",
                ));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            findings.push(Finding::at(
                path,
                text.lines().count(),
                "end the file with a newline",
            ));
        }
        if text.ends_with("\n\n") {
            findings.push(Finding::at(
                path,
                text.lines().count(),
                "remove the empty last line",
            ));
        }
    }
    findings
}

/// No source file so long that nobody reads it.
pub(super) fn length(tree: &Tree) -> Vec<Finding> {
    tree.texts()
        .filter(|(path, _)| path.ends_with(".rs") || path.ends_with(".wgsl"))
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            (lines > MOST_LINES).then(|| {
                let message = format!("split the file: at most {MOST_LINES} lines, got {lines}");
                Finding::new(path, message)
            })
        })
        .collect()
}

/// No path of somebody's machine.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    // In pieces, so that this file does not find itself.
    let homes = ["home", "root", "Users"].map(|folder| format!("/{folder}/"));
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        for (index, line) in text.lines().enumerate() {
            for home in &homes {
                let found = line.match_indices(home.as_str()).any(|(at, _)| {
                    // `docs.example/home/x` and `../root/x` are no absolute paths.
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/~}*".contains(c))
                });
                if found {
                    let message = format!("remove the path of one machine (`{home}…`)");
                    findings.push(Finding::at(path, index + 1, message));
                }
            }
        }
    }
    findings
}

/// Nothing that says "later", nothing that turns a test off or expects a panic.
pub(super) fn unfinished(tree: &Tree) -> Vec<Finding> {
    // In pieces, so that this file does not find itself.
    let words = [
        (
            format!("to{}!", "do"),
            "write the code, or return a typed error",
        ),
        (
            format!("unimpl{}!", "emented"),
            "write the code, or return a typed error",
        ),
        (
            format!("#[ig{}", "nore"),
            "make the test pass, or remove it",
        ),
        (
            format!("#[should{}", "_panic"),
            "return a typed error and compare the variant",
        ),
    ];
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs")) {
        for (index, line) in text.lines().enumerate() {
            for (word, advice) in &words {
                // An assertion helper panics by contract, and its tests must see that it rejects.
                if word.ends_with("panic") && path.contains("/tests/it/testing/") {
                    continue;
                }
                let found = line.match_indices(word.as_str()).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                });
                if found {
                    findings.push(Finding::at(
                        path,
                        index + 1,
                        format!("no `{word}`: {advice}"),
                    ));
                }
            }
        }
    }
    findings
}

/// No file whose name says nothing.
pub(super) fn vague_names(tree: &Tree) -> Vec<Finding> {
    let vague = [
        "utils.rs",
        "util.rs",
        "helpers.rs",
        "helper.rs",
        "base.rs",
        "misc.rs",
    ];
    tree.paths()
        .filter(|path| {
            path.rsplit('/')
                .next()
                .is_some_and(|name| vague.contains(&name))
        })
        .map(|path| Finding::new(path, "name the file after what is in it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_module_doc_is_found() {
        let tree = Tree::of([
            ("a.rs", "fn main() {}\n"),
            ("b.rs", "//! Says it.\n"),
            ("c.rs", "#![doc = include_str!(\"../README.md\")]\n"),
            ("d.rs", "//!\n"),
            (
                "f.rs",
                "#![cfg_attr(feature = \"x\", doc = include_str!(\"../README.md\"))]\n",
            ),
            ("g.rs", "#![allow(dead_code)]\n"),
            ("e.py", "x = 1\n"),
        ]);
        let found = module_docs(&tree);
        assert_eq!(found.len(), 3);
        assert!(
            shown(&found)[0].starts_with("a.rs:1: start the file"),
            "{found:?}"
        );
        assert!(
            shown(&found)[1].starts_with("d.rs:1: start the file"),
            "{found:?}"
        );
    }

    #[test]
    fn white_space_at_the_end_is_found() {
        let tree = Tree::of([
            ("a.rs", "//! a\nlet x; \n\t\nfin\n"),
            ("b.md", "no newline"),
            ("c.toml", "[a]\r\n"),
            ("d.yml", "a: 1\n\n"),
            (".ci/run", "true \n"),
            ("good.rs", "//! a\n\nfn x() {}\n"),
            ("data.json", "{} "),
            ("empty.py", ""),
        ]);
        let want = [
            ".ci/run:1: remove the white space at the end",
            "a.rs:2: remove the white space at the end",
            "a.rs:3: remove the white space at the end",
            "b.md:1: end the file with a newline",
            "c.toml:1: use Unix line ends (LF)",
            "d.yml:2: remove the empty last line",
        ];
        assert_eq!(shown(&whitespace(&tree)), want);
    }

    #[test]
    fn a_file_of_601_lines_is_found_and_one_of_600_is_not() {
        let (long, fits) = ("x\n".repeat(601), "x\n".repeat(600));
        let tree = Tree::of([
            ("crates/a/src/a.rs", long.as_str()),
            ("crates/a/src/b.rs", &fits),
        ]);
        assert_eq!(
            shown(&length(&tree)),
            ["crates/a/src/a.rs: split the file: at most 600 lines, got 601"]
        );
    }

    #[test]
    fn paths_of_one_machine_are_found_and_others_are_not() {
        let line = |folder: &str| format!("open(\"/{folder}/ann/x\")\n");
        for folder in ["home", "root", "Users"] {
            let text = line(folder);
            let found = machine_paths(&Tree::of([("a.py", text.as_str())]));
            assert_eq!(found.len(), 1, "{folder}");
        }
        let fine = [
            "https://example.org/home/x",
            "../home/x",
            "$HOME/x",
            "crates/root/x",
            "a/Users/b",
        ];
        let text = fine.join("\n");
        assert_eq!(machine_paths(&Tree::of([("a.md", text.as_str())])), []);
    }

    #[test]
    fn unfinished_code_and_disabled_tests_are_found() {
        let bad = [
            concat!("to", "do!()"),
            concat!("unimpl", "emented!(\"x\")"),
            concat!("#[ig", "nore]"),
            concat!("#[ig", "nore = \"slow\"]"),
            concat!("#[should", "_panic]"),
        ];
        for line in bad {
            let found = unfinished(&Tree::of([("a.rs", line)]));
            assert_eq!(found.len(), 1, "{line}");
        }
        let fine = [
            concat!("my_to", "do!()"),
            "ignore_index",
            "should_panic_less()",
        ]
        .join("\n");
        assert_eq!(unfinished(&Tree::of([("a.rs", fine.as_str())])), []);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        let tree = Tree::of([("crates/a/src/utils.rs", ""), ("crates/a/src/rope.rs", "")]);
        assert_eq!(
            shown(&vague_names(&tree)),
            ["crates/a/src/utils.rs: name the file after what is in it"]
        );
    }
}
