//! `cargo xtask book`: builds, checks and tests the book. The work is done by `book/builder` and `xtask/browser`.

mod mutations;
mod outputs;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::browser::{self, Visit};
use crate::{cargo, command, widgets};

/// The folder of the book.
const FOLDER: &str = "book";
/// The package that builds the pages.
const BUILDER: &str = "llm-blocks-book";
/// The page with the widget.
const WIDGET_PAGE: &str = "positions/rope.html";

/// Seconds for a page on a slow machine.
const TIMEOUT: u32 = 120;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Builds the pages of every language into book/html
    Build,
    /// Builds, serves the pages on this machine, and builds again when a source changes
    Serve {
        /// Port on the loopback address
        #[arg(long, default_value_t = 3000)]
        port: u16,
    },
    /// Builds and looks for what is missing or stale: anchors, links, recorded outputs, translations
    Check,
    /// Records what the listings print, and how the tests fail on mutated code
    Outputs {
        /// Write nothing; fail if something is not as recorded
        #[arg(long)]
        check: bool,
        /// Leave out the mutations, which compile a crate again for each
        #[arg(long)]
        skip_mutations: bool,
    },
    /// Extracts the messages and merges them into the translations
    Po {
        /// Write nothing; fail if a message is new, gone, fuzzy or not translated
        #[arg(long)]
        check: bool,
    },
    /// Opens every page in a headless Chromium, and moves the widget
    Test,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cargo::root();
    match args.action {
        Action::Build => build(&root),
        Action::Serve { port } => builder(&root, &["serve", "--port", &port.to_string()]),
        Action::Check => check(&root),
        Action::Outputs {
            check,
            skip_mutations,
        } => {
            outputs::run(&root, check)?;
            if skip_mutations {
                return mutations::applicable(&root);
            }
            mutations::run(&root, check)
        }
        Action::Po { check: false } => builder(&root, &["po"]),
        Action::Po { check: true } => builder(&root, &["po", "--check"]),
        Action::Test => test(&root),
    }
}

/// What `cargo xtask check` runs: everything but the mutations and the browser.
pub(crate) fn check(root: &Path) -> Result<()> {
    outputs::run(root, true)?;
    mutations::applicable(root)?;
    builder(root, &["po", "--check"])?;
    builder(root, &["build"])
}

fn build(root: &Path) -> Result<()> {
    let widgets = widgets(root)?;
    builder(root, &["build", "--widgets", &widgets.to_string_lossy()])
}

/// Builds the live figures and returns their folder.
fn widgets(root: &Path) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    let folder = target.join("book-widgets");
    widgets::build(root, &folder)?;
    Ok(folder)
}

fn builder(root: &Path, args: &[&str]) -> Result<()> {
    let mut command = command::cargo(root);
    command.args([
        "run",
        "--quiet",
        "--package",
        BUILDER,
        "--",
        "--root",
        FOLDER,
    ]);
    command::run(command.args(args))
}

/// Opens every page and moves the widget. A page has failed if it logs an error, misses a file or asks another
/// server: the tool sees to that. What the script finds wrong comes back as a list.
fn test(root: &Path) -> Result<()> {
    build(root)?;
    let folder = root.join(FOLDER);
    let html = folder.join("html");
    let mut pages = Vec::new();
    find_pages(&html, &html, &mut pages)?;
    if pages.is_empty() {
        bail!("there are no pages in {}", html.display());
    }
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let path = folder.join("tests/pages.js");
    let script = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let visit = Visit {
        root: &html,
        pages: &pages,
        script: &script,
        timeout: TIMEOUT,
    };
    let mut problems = Vec::new();
    for (page, found) in pages.iter().zip(browser::visit(root, &visit)?) {
        let found = found
            .as_array()
            .with_context(|| format!("{page}: the script must return a list, got {found}"))?;
        problems.extend(found.iter().map(|problem| format!("{page}: {problem}")));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    let live: Vec<&str> = pages
        .iter()
        .filter(|page| page.ends_with(WIDGET_PAGE))
        .copied()
        .collect();
    if live.is_empty() {
        bail!("there is no page {WIDGET_PAGE}");
    }
    widgets::check(root, &html, &live)?;
    println!(
        "book test: {} pages opened, {} live figures moved",
        pages.len(),
        live.len()
    );
    Ok(())
}

fn find_pages(root: &Path, folder: &Path, pages: &mut Vec<String>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            find_pages(root, &path, pages)?;
        } else if path.extension().is_some_and(|ending| ending == "html") {
            let page = path
                .strip_prefix(root)?
                .to_string_lossy()
                .replace('\\', "/");
            // The list of chapters for readers without JavaScript is a part of a page.
            if !page.ends_with("toc.html") {
                pages.push(page);
            }
        }
    }
    Ok(())
}

/// The files and folders in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let error = || format!("cannot list {}", folder.display());
    let mut paths = std::fs::read_dir(folder)
        .with_context(error)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()
        .with_context(error)?;
    paths.sort();
    Ok(paths)
}

/// Writes a recorded text, or compares it with what is there.
fn record(file: &Path, text: &str, check: bool) -> Result<()> {
    if !check {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        return std::fs::write(file, text)
            .with_context(|| format!("cannot write {}", file.display()));
    }
    let recorded = std::fs::read_to_string(file).with_context(|| {
        format!(
            "{} is missing; run `cargo xtask book outputs`",
            file.display()
        )
    })?;
    if recorded != text {
        bail!(
            "{} is stale; run `cargo xtask book outputs` and look at the difference. Now it is:\n{text}",
            file.display()
        );
    }
    Ok(())
}
