//! `cargo xtask book`: builds, checks and tests the book. The work is done by `book/builder` and `xtask/browser`.

mod mutations;
mod outputs;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, command};

/// The folder of the book.
const FOLDER: &str = "book";
/// The package that builds the pages.
const BUILDER: &str = "llm-blocks-book";
/// The page with the widget.
const WIDGET_PAGE: &str = "positions/rope.html";

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
    build(root)
}

fn build(root: &Path) -> Result<()> {
    builder(root, &["build"])
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

/// A page has failed if it logs an error, misses a file or asks another server; the tool itself sees to that.
fn test(root: &Path) -> Result<()> {
    build(root)?;
    let html = root.join(FOLDER).join("html");
    let mut pages = Vec::new();
    find_pages(&html, &html, &mut pages)?;
    pages.sort();
    if pages.is_empty() {
        bail!("there are no pages in {}", html.display());
    }
    let n_pages = pages.len();
    browse(root, &pages, "pages.js")?;
    let with_widget: Vec<String> = pages
        .into_iter()
        .filter(|page| page.ends_with(WIDGET_PAGE))
        .collect();
    if with_widget.is_empty() {
        bail!("there is no page {WIDGET_PAGE}");
    }
    browse(root, &with_widget, "rope_widget.js")?;
    println!(
        "book test: {n_pages} pages opened, {} widgets moved",
        with_widget.len()
    );
    Ok(())
}

/// Opens pages and runs a script of `book/tests` in each; a script throws when it finds something wrong.
fn browse(root: &Path, pages: &[String], script: &str) -> Result<()> {
    let folder = root.join(FOLDER);
    let mut command = command::cargo(root);
    command.args(["run", "--quiet", "--package", "xtask-browser", "--", "run"]);
    command.arg("--root").arg(folder.join("html"));
    command
        .arg("--script")
        .arg(folder.join("tests").join(script));
    for page in pages {
        command.args(["--page", page]);
    }
    command::run(&mut command)
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
