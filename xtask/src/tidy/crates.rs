//! Rules about the inside of each folder of `crates/`: all are alike, so that one can find things.

use crate::architecture::{self, Layer};
use crate::tree::{Finding, Folder, Tree};

/// The method crates, by the layers of ARCHITECTURE.md's table.
fn method_crates(tree: &Tree) -> Result<Vec<Folder>, Finding> {
    let text = tree.text(architecture::PATH).ok_or_else(|| {
        Finding::new(architecture::PATH, "add the file with its dependency table")
    })?;
    let rows = architecture::rows(text)
        .map_err(|error| Finding::new(architecture::PATH, format!("{error:#}")))?;
    let is_method = |folder: &Folder| {
        rows.iter()
            .any(|row| row.package == folder.package && row.layer == Layer::Method)
    };
    Ok(tree.crates().into_iter().filter(is_method).collect())
}

/// Each crate has what a reader looks for first.
pub(super) fn files(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Folder { path, .. } in tree.crates() {
        let wanted = [
            ("Cargo.toml", "add the manifest, or remove the folder"),
            (
                "README.md",
                "add it: purpose, example, table of methods, what it is not",
            ),
            ("CHANGELOG.md", "add it, with a heading `## [Unreleased]`"),
        ];
        for (name, advice) in wanted {
            let file = format!("{path}/{name}");
            if !tree.has(&file) {
                findings.push(Finding::new(file, format!("missing; {advice}")));
            }
        }
        if !tree.has(&format!("{path}/src/lib.rs")) && !tree.has(&format!("{path}/src/main.rs")) {
            let message = "missing; add the library's contents page, or src/main.rs";
            findings.push(Finding::new(format!("{path}/src/lib.rs"), message));
        }
    }
    findings
}

/// Facts of the workspace are not repeated in a manifest, and the lints hold everywhere.
pub(super) fn manifests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Folder { path, .. } in tree.crates() {
        let file = format!("{path}/Cargo.toml");
        let Some(text) = tree.text(&file) else {
            continue;
        };
        for key in ["edition", "rust-version", "license"] {
            let inherited = format!("{key}.workspace = true");
            if !text.lines().any(|line| line.trim() == inherited) {
                findings.push(Finding::new(&file, format!("write `{inherited}`")));
            }
        }
        let lints = text
            .lines()
            .skip_while(|line| line.trim() != "[lints]")
            .nth(1);
        if lints.is_none_or(|line| line.trim() != "workspace = true") {
            findings.push(Finding::new(
                &file,
                "end with `[lints]` and `workspace = true`",
            ));
        }
        if !text
            .lines()
            .any(|line| line.starts_with("description = \""))
        {
            findings.push(Finding::new(&file, "add a `description` of one sentence"));
        }
    }
    findings
}

/// What has changed since the last release has a place to be written down.
pub(super) fn changelogs(tree: &Tree) -> Vec<Finding> {
    tree.crates()
        .into_iter()
        .map(|folder| format!("{}/CHANGELOG.md", folder.path))
        .filter(|file| {
            tree.text(file).is_some_and(|text| {
                !text
                    .lines()
                    .any(|line| line == "## [Unreleased]" || line == "## Unreleased")
            })
        })
        .map(|file| Finding::new(file, "add a heading `## [Unreleased]` on top"))
        .collect()
}

/// Each method crate has a reference and one test program.
pub(super) fn method_files(tree: &Tree) -> Vec<Finding> {
    let folders = match method_crates(tree) {
        Ok(folders) => folders,
        Err(finding) => return vec![finding],
    };
    let mut findings = Vec::new();
    for Folder { path, .. } in folders {
        let file = format!("{path}/src/reference.rs");
        if !tree.has(&file) && !tree.has_folder(&format!("{path}/src/reference")) {
            let message = "missing; a method crate has a textbook twin of each method";
            findings.push(Finding::new(file, message));
        }
        let file = format!("{path}/tests/it/main.rs");
        if !tree.has(&file) {
            let message =
                "missing; a method crate has one test program, with a module per kind of claim";
            findings.push(Finding::new(file, message));
        }
        for part in tree.below(&format!("{path}/tests")) {
            let inside = &part[path.len() + "/tests/".len()..];
            if inside.ends_with(".rs") && !inside.contains('/') {
                let message = "move it into tests/it: each file here links a program of its own";
                findings.push(Finding::new(part, message));
            }
        }
    }
    findings
}

/// Each folder of vectors is explained in the README at their root: the contract for other languages.
pub(super) fn data_readmes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Folder { path, .. } in tree.crates() {
        let data = format!("{path}/tests/data");
        if !tree.has_folder(&data) {
            continue;
        }
        let readme = format!("{data}/README.md");
        let Some(text) = tree.text(&readme) else {
            findings.push(Finding::new(
                readme,
                "missing; list the ops, their params and tensors",
            ));
            continue;
        };
        let mut folders: Vec<&str> = tree
            .below(&data)
            .filter_map(|file| file[data.len() + 1..].split_once('/'))
            .map(|(op, _)| op)
            .collect();
        folders.dedup();
        for op in folders {
            if !text.contains(op) {
                let message = format!("explain the folder `{op}`: op, params, tensors");
                findings.push(Finding::new(&readme, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHITECTURE: &str = "<!-- deps:begin -->\n| `llm-a` | method | – | – |\n\
                                | `llm-b` | assembly | – | – |\n<!-- deps:end -->\n";

    fn shown(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_with_a_missing_file_is_found() {
        let tree = Tree::of([("crates/a/src/rope.rs", ""), ("crates/a/README.md", "")]);
        let found = shown(&files(&tree));
        assert_eq!(found.len(), 3);
        for (line, start) in found
            .iter()
            .zip(["Cargo.toml", "CHANGELOG.md", "src/lib.rs"])
        {
            assert!(
                line.starts_with(&format!("crates/a/{start}: missing")),
                "{line}"
            );
        }
        let whole = Tree::of([
            ("crates/a/Cargo.toml", ""),
            ("crates/a/README.md", ""),
            ("crates/a/CHANGELOG.md", ""),
            ("crates/a/src/main.rs", ""),
        ]);
        assert_eq!(files(&whole), []);
    }

    #[test]
    fn a_manifest_that_repeats_the_workspace_is_found() {
        let good = "[package]\ndescription = \"x\"\nedition.workspace = true\n\
                    rust-version.workspace = true\nlicense.workspace = true\n\n\
                    [lints]\nworkspace = true\n";
        assert_eq!(manifests(&Tree::of([("crates/a/Cargo.toml", good)])), []);
        let slips = [
            (
                "edition.workspace = true",
                "edition = \"2024\"",
                "edition.workspace",
            ),
            (
                "rust-version.workspace = true",
                "rust-version = \"1.90\"",
                "rust-version.workspace",
            ),
            ("license.workspace = true", "", "license.workspace"),
            (
                "[lints]\nworkspace = true",
                "[lints.rust]\nunsafe_code = \"allow\"",
                "[lints]",
            ),
            ("description = \"x\"", "", "description"),
        ];
        for (right, wrong, word) in slips {
            let text = good.replace(right, wrong);
            let found = shown(&manifests(&Tree::of([(
                "crates/a/Cargo.toml",
                text.as_str(),
            )])));
            assert_eq!(found.len(), 1, "{word}");
            assert!(found[0].contains(word), "{found:?}");
        }
    }

    #[test]
    fn a_changelog_without_unreleased_is_found() {
        let tree = Tree::of([
            ("crates/a/CHANGELOG.md", "# Changelog\n\n## 0.1.0\n"),
            ("crates/b/CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n"),
        ]);
        let want = ["crates/a/CHANGELOG.md: add a heading `## [Unreleased]` on top"];
        assert_eq!(shown(&changelogs(&tree)), want);
    }

    #[test]
    fn a_method_crate_without_reference_or_test_program_is_found() {
        let tree = Tree::of([
            ("ARCHITECTURE.md", ARCHITECTURE),
            ("crates/a/src/lib.rs", ""),
            ("crates/a/tests/rope.rs", ""),
            ("crates/b/src/lib.rs", ""),
        ]);
        let found = shown(&method_files(&tree));
        assert_eq!(found.len(), 3);
        assert!(
            found[0].starts_with("crates/a/src/reference.rs: missing"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("crates/a/tests/it/main.rs: missing"),
            "{found:?}"
        );
        assert!(
            found[2].starts_with("crates/a/tests/rope.rs: move it"),
            "{found:?}"
        );
    }

    #[test]
    fn without_the_table_the_rule_says_so() {
        let found = method_files(&Tree::of([("crates/a/src/lib.rs", "")]));
        assert_eq!(
            shown(&found),
            ["ARCHITECTURE.md: add the file with its dependency table"]
        );
    }

    #[test]
    fn vectors_that_no_readme_explains_are_found() {
        let bare = Tree::of([("crates/a/tests/data/rope.apply/x.safetensors", "")]);
        assert_eq!(data_readmes(&bare).len(), 1);
        let other = Tree::of([
            ("crates/a/tests/data/README.md", "## alibi.bias\n"),
            ("crates/a/tests/data/alibi.bias/x.safetensors", ""),
            ("crates/a/tests/data/rope.apply/x.safetensors", ""),
        ]);
        let want =
            ["crates/a/tests/data/README.md: explain the folder `rope.apply`: op, params, tensors"];
        assert_eq!(shown(&data_readmes(&other)), want);
    }
}
