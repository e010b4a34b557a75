//! Rules about the documents at the root: they agree with the tree.

use crate::architecture;
use crate::tree::{Finding, Tree};

/// The line before the table of crates in a README.
pub(crate) const TABLE_BEGIN: &str = "<!-- crates:begin -->";
/// The line after it.
pub(crate) const TABLE_END: &str = "<!-- crates:end -->";
/// The documents with that table: the same columns in every language.
pub(crate) const READMES: [&str; 2] = ["README.md", "README.zh.md"];

/// The documents that a stranger looks for are there.
pub(super) fn present(tree: &Tree) -> Vec<Finding> {
    let wanted = [
        "README.md",
        "README.zh.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "GLOSSARY.md",
        "CHANGELOG.md",
    ];
    wanted
        .into_iter()
        .filter(|path| !tree.has(path))
        .map(|path| Finding::new(path, "missing; add it"))
        .collect()
}

/// Both licences are there, whole.
pub(super) fn licences(tree: &Tree) -> Vec<Finding> {
    let wanted = [
        ("LICENSE-APACHE", "END OF TERMS AND CONDITIONS"),
        ("LICENSE-MIT", "WITHOUT WARRANTY OF ANY KIND"),
    ];
    wanted
        .into_iter()
        .filter(|(path, words)| !tree.text(path).is_some_and(|text| text.contains(words)))
        .map(|(path, words)| {
            Finding::new(
                path,
                format!("add the whole text of the licence (\"{words}\" is missing)"),
            )
        })
        .collect()
}

/// The tables of the READMEs list each crate, and their ticks are true.
pub(super) fn crate_table(tree: &Tree) -> Vec<Finding> {
    READMES
        .into_iter()
        .filter_map(|path| Some((path, tree.text(path)?)))
        .flat_map(|(path, text)| crate_table_of(tree, path, text))
        .collect()
}

fn crate_table_of(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let begin = text.lines().position(|line| line == TABLE_BEGIN);
    let end = text.lines().position(|line| line == TABLE_END);
    let (Some(begin), Some(end)) = (begin, end) else {
        let message = format!("put the table of crates between `{TABLE_BEGIN}` and `{TABLE_END}`");
        return vec![Finding::new(path, message)];
    };
    let rows: Vec<(usize, Vec<&str>)> = text
        .lines()
        .enumerate()
        .take(end)
        .skip(begin + 1)
        .filter_map(|(index, line)| Some((index + 1, architecture::cells(line)?)))
        .collect();

    let mut findings = Vec::new();
    let crates = tree.crates();
    for folder in &crates {
        let link = format!("[`{}`]({})", folder.package, folder.path);
        let Some((line, cells)) = rows
            .iter()
            .find(|(_, cells)| cells.first() == Some(&&*link))
        else {
            let message = format!("add a row for {link} to the table of crates");
            findings.push(Finding::new(path, message));
            continue;
        };
        let [_, _, reference, _, _, gpu, vectors] = cells[..] else {
            let message = format!(
                "the row has 7 cells (crate, what, reference, fast CPU, backward, GPU, vectors), got {}",
                cells.len()
            );
            findings.push(Finding::at(path, *line, message));
            continue;
        };
        let inside = |part: &str| format!("{}/{part}", folder.path);
        let has_module = |name: &str| {
            tree.has(&inside(&format!("src/{name}.rs")))
                || tree.has_folder(&inside(&format!("src/{name}")))
        };
        let has_vectors = tree
            .below(&inside("tests/data"))
            .any(|file| !file.ends_with("/README.md"));
        let facts = [
            ("reference", reference, has_module("reference")),
            ("GPU", gpu, has_module("gpu")),
            ("vectors", vectors, has_vectors),
        ];
        for (column, cell, is_there) in facts {
            if (cell == "✓") != is_there {
                let message = if is_there {
                    format!(
                        "tick the column {column} of `{}`: the files are there",
                        folder.package
                    )
                } else {
                    format!(
                        "untick the column {column} of `{}`: there are no files",
                        folder.package
                    )
                };
                findings.push(Finding::at(path, *line, message));
            }
        }
    }
    for (line, cells) in &rows {
        let name = cells
            .first()
            .and_then(|cell| cell.strip_prefix("[`")?.split('`').next());
        if let Some(name) = name
            && !crates.iter().any(|folder| folder.package == name)
        {
            findings.push(Finding::at(
                path,
                *line,
                format!("remove the row: no crate `{name}`"),
            ));
        }
    }
    findings
}

/// The code map of ARCHITECTURE.md has a paragraph for each crate.
pub(super) fn code_map(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(architecture::PATH) else {
        return Vec::new();
    };
    tree.crates()
        .into_iter()
        .filter(|folder| {
            !text
                .lines()
                .any(|line| line.starts_with(&format!("**`{}`**", folder.path)))
        })
        .map(|folder| {
            let message = format!(
                "add a paragraph to the code map that starts with **`{}`**",
                folder.path
            );
            Finding::new(architecture::PATH, message)
        })
        .collect()
}

/// The oldest Rust that works is said once, in Cargo.toml.
pub(super) fn rust_version(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        let is_document = path.ends_with(".md") && !path.ends_with("CHANGELOG.md");
        let is_recipe = path.ends_with(".yml") || path.starts_with(".ci/");
        if !is_document && !is_recipe {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            if names_a_toolchain(line) {
                let message =
                    "do not repeat the version of Rust: `rust-version` in Cargo.toml says it";
                findings.push(Finding::at(path, index + 1, message));
            }
        }
    }
    findings
}

/// True for `Rust 1.89`, `rustc 1.89.0`, `MSRV: 1.89`, `cargo +1.89`.
fn names_a_toolchain(line: &str) -> bool {
    let lower = line.to_lowercase();
    lower.match_indices("1.").any(|(at, _)| {
        let digits = lower[at + 2..]
            .chars()
            .take_while(char::is_ascii_digit)
            .count();
        let before = lower[..at].trim_end_matches([' ', ':', '`', '*', '=', '"']);
        let named = [
            "rust",
            "rustc",
            "msrv",
            "rust-version",
            "cargo +",
            "toolchain",
        ]
        .iter()
        .any(|word| before.ends_with(word));
        digits >= 2 && named
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    fn readme(rows: &str) -> String {
        format!("# x\n{TABLE_BEGIN}\n| Crate | What |\n|---|---|\n{rows}{TABLE_END}\n")
    }

    #[test]
    fn a_missing_document_is_found() {
        let found = shown(&present(&Tree::of([
            ("README.md", ""),
            ("README.zh.md", ""),
        ])));
        assert_eq!(found.len(), 4);
        assert_eq!(found[0], "ARCHITECTURE.md: missing; add it");
    }

    #[test]
    fn a_cut_licence_is_found() {
        let tree = Tree::of([
            ("LICENSE-APACHE", "Apache License\n"),
            (
                "LICENSE-MIT",
                "THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND\n",
            ),
        ]);
        let found = shown(&licences(&tree));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("LICENSE-APACHE: add the whole text"),
            "{found:?}"
        );
    }

    #[test]
    fn a_crate_without_row_and_a_row_without_crate_are_found() {
        let text = readme("| [`llm-b`](crates/b) | b | – | – | – | – | – |\n");
        let found = shown(&crate_table(&Tree::of([
            ("README.md", text.as_str()),
            ("crates/a/src/lib.rs", ""),
        ])));
        let want = [
            "README.md: add a row for [`llm-a`](crates/a) to the table of crates",
            "README.md:5: remove the row: no crate `llm-b`",
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn a_tick_without_files_and_files_without_tick_are_found() {
        let text = readme("| [`llm-a`](crates/a) | a | – | ✓ | ✓ | ✓ | ✓ |\n");
        let found = shown(&crate_table(&Tree::of([
            ("README.md", text.as_str()),
            ("crates/a/src/reference.rs", ""),
            ("crates/a/tests/data/README.md", ""),
        ])));
        let want = [
            "README.md:5: tick the column reference of `llm-a`: the files are there",
            "README.md:5: untick the column GPU of `llm-a`: there are no files",
            "README.md:5: untick the column vectors of `llm-a`: there are no files",
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn a_true_row_is_fine() {
        let text = readme("| [`llm-a`](crates/a) | a | ✓ | ✓ | – | not yet | ✓ |\n");
        let tree = Tree::of([
            ("README.md", text.as_str()),
            ("crates/a/src/reference/rope.rs", ""),
            ("crates/a/tests/data/rope/x.safetensors", ""),
        ]);
        assert_eq!(crate_table(&tree), []);
    }

    #[test]
    fn a_table_without_markers_is_found() {
        let found = crate_table(&Tree::of([("README.md", "| a |\n")]));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_crate_that_the_code_map_lacks_is_found() {
        let tree = Tree::of([
            ("ARCHITECTURE.md", "**`crates/a`** Rotates.\n"),
            ("crates/a/src/lib.rs", ""),
            ("crates/b/src/lib.rs", ""),
        ]);
        let want =
            ["ARCHITECTURE.md: add a paragraph to the code map that starts with **`crates/b`**"];
        assert_eq!(shown(&code_map(&tree)), want);
    }

    #[test]
    fn a_repeated_rust_version_is_found() {
        for line in [
            "Needs Rust 1.89.",
            "MSRV: `1.89`",
            "cargo +1.89 check",
            "rustc 1.95.0",
        ] {
            assert!(names_a_toolchain(line), "{line}");
        }
        for line in [
            "version 1.25 of bytemuck",
            "at most 1.5 MB",
            "Rust, 1.5 times",
            "rust 1.5",
        ] {
            assert!(!names_a_toolchain(line), "{line}");
        }
        let tree = Tree::of([
            ("README.md", "ok\nRust 1.89\n"),
            ("CHANGELOG.md", "Rust 1.89\n"),
            (".github/workflows/ci.yml", "toolchain: 1.89\n"),
        ]);
        let found = rust_version(&tree);
        assert_eq!(found.len(), 2);
        assert!(shown(&found)[1].starts_with("README.md:2:"), "{found:?}");
    }
}
