//! The files of the repository in memory, so that a rule is a function from files to findings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Folders that hold nothing we wrote.
const SKIPPED: [&str; 11] = [
    "target",
    ".git",
    ".vectors-venv",
    ".venv",
    "runs",
    "__pycache__",
    "mutants.out",
    "html",
    "artifacts",
    "corpus",
    "coverage",
];

/// Endings of the files that we write by hand. Others are data: only their names are read.
const TEXT: [&str; 13] = [
    "rs", "md", "toml", "yml", "yaml", "py", "sh", "wgsl", "js", "css", "html", "txt", "json",
];

/// Every file of the repository by its path from the root, with `/`. Data files have no text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

/// One thing that is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: Option<usize>,
    message: String,
}

impl Finding {
    /// Something about a file as a whole, or a missing file.
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: None,
            message: message.into(),
        }
    }

    /// Something about one line, counted from 1.
    pub(crate) fn at(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: Some(line),
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// A folder of `crates/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    /// `crates/posenc`
    pub(crate) path: String,
    /// `llm-posenc`, or `llm-` and the folder's name if there is no manifest.
    pub(crate) package: String,
}

impl Tree {
    /// Reads the repository at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry
                .file_type()
                .with_context(|| format!("cannot look at {path}"))?;
            if kind.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    self.read_folder(&entry.path(), &format!("{path}/"))?;
                }
            } else if is_text(&path) {
                // A file may vanish while we walk (an editor's or cargo's temporary one).
                if let Ok(bytes) = std::fs::read(entry.path()) {
                    let text = String::from_utf8(bytes).ok();
                    self.files.insert(path, text);
                }
            } else {
                self.files.insert(path, None);
            }
        }
        Ok(())
    }

    /// A tree for tests.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        let files = files
            .into_iter()
            .map(|(path, text)| (path.to_owned(), is_text(path).then(|| text.to_owned())))
            .collect();
        Self { files }
    }

    /// The text of a file, if it is there and is text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// True if there is such a file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// True if there is a file below the folder.
    pub(crate) fn has_folder(&self, path: &str) -> bool {
        self.below(path).next().is_some()
    }

    /// All paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The paths below a folder.
    pub(crate) fn below<'a>(&'a self, folder: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let prefix = format!("{folder}/");
        self.files
            .range(prefix.clone()..)
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(&prefix))
    }

    /// All files with text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The folders of `crates/`, whole or not.
    pub(crate) fn crates(&self) -> Vec<Folder> {
        let mut folders: Vec<Folder> = Vec::new();
        for path in self.below("crates") {
            let Some((name, _)) = path["crates/".len()..].split_once('/') else {
                continue;
            };
            let path = format!("crates/{name}");
            if folders.last().is_some_and(|last| last.path == path) {
                continue;
            }
            let package = self
                .text(&format!("{path}/Cargo.toml"))
                .and_then(package_name)
                .unwrap_or_else(|| format!("llm-{name}"));
            folders.push(Folder { path, package });
        }
        folders
    }
}

/// The `name` of a manifest's `[package]`.
fn package_name(manifest: &str) -> Option<String> {
    let package = manifest
        .lines()
        .skip_while(|line| line.trim() != "[package]");
    let value = package
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .find_map(|line| line.strip_prefix("name")?.trim_start().strip_prefix('='))?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some(("", _)) => true, // .gitignore and the like
        Some((_, ending)) => TEXT.contains(&ending),
        None => true, // LICENSE-MIT, run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_named_by_its_manifest() {
        let tree = Tree::of([
            (
                "crates/cli/Cargo.toml",
                "[package]\nname = \"llm-blocks-cli\"\n",
            ),
            ("crates/cli/src/main.rs", ""),
            ("crates/posenc/src/lib.rs", ""),
        ]);
        let folder = |path: &str, package: &str| Folder {
            path: path.to_owned(),
            package: package.to_owned(),
        };
        assert_eq!(
            tree.crates(),
            [
                folder("crates/cli", "llm-blocks-cli"),
                folder("crates/posenc", "llm-posenc")
            ]
        );
    }

    #[test]
    fn a_dependency_named_before_the_package_is_not_its_name() {
        let manifest = "[lib]\nname = \"other\"\n[package]\nname = \"llm-ffn\"\n";
        assert_eq!(package_name(manifest).as_deref(), Some("llm-ffn"));
    }

    #[test]
    fn data_has_a_name_but_no_text() {
        let tree = Tree::of([("a/b.safetensors", "x"), ("a/c.rs", "y"), ("ab/d.rs", "z")]);
        assert!(tree.has("a/b.safetensors"));
        assert_eq!(tree.text("a/b.safetensors"), None);
        assert_eq!(tree.text("a/c.rs"), Some("y"));
        assert_eq!(
            tree.below("a").collect::<Vec<_>>(),
            ["a/b.safetensors", "a/c.rs"]
        );
    }
}
