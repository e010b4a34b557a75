//! Builds the book in each of its languages. `cargo xtask book VERB` calls this program.

mod catalog;
mod code;
mod figures;
mod formulas;
mod languages;
mod links;
mod render;
mod scan;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Builds the book of llm-blocks.
#[derive(Debug, Parser)]
struct Cli {
    /// The folder of the book
    #[arg(long, default_value = "book")]
    root: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Builds every language into html/ and checks the links between pages
    Build {
        /// Folder with the built live figures; without it the pages keep their pictures
        #[arg(long)]
        widgets: Option<PathBuf>,
    },
    /// Builds, serves the pages on this machine, and builds again when a source changes
    Serve {
        /// Port on the loopback address
        #[arg(long, default_value_t = 3000)]
        port: u16,
        /// Folder with the built live figures
        #[arg(long)]
        widgets: Option<PathBuf>,
    },
    /// Extracts the messages and merges them into the translations
    Po {
        /// Write nothing; fail if a message is new, gone, fuzzy or not translated
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    match &cli.verb {
        Verb::Build { widgets } => build(&cli.root, widgets.as_deref()),
        Verb::Serve { port, widgets } => {
            serve::run(&cli.root, *port, || build(&cli.root, widgets.as_deref()))
        }
        Verb::Po { check } => catalog::update(&cli.root, *check),
    }
}

fn build(root: &Path, widgets: Option<&Path>) -> Result<()> {
    for language in languages::ALL {
        let folder = render::build(root, language)?;
        if let Some(widgets) = widgets {
            copy(widgets, &folder.join("widgets"))?;
        }
        let pages = links::check(&folder)?;
        println!(
            "{}: {pages} pages in {}, links are whole",
            language.folder,
            folder.display()
        );
    }
    Ok(())
}

/// Copies the files of a folder, without those below it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let error = || format!("cannot copy {} to {}", from.display(), to.display());
    std::fs::create_dir_all(to).with_context(error)?;
    for entry in std::fs::read_dir(from).with_context(error)? {
        let entry = entry.with_context(error)?;
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).with_context(error)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
