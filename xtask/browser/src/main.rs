//! `xtask-browser`: the verbs of `cargo xtask` that need a browser call it; see the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use xtask_browser::Options;

/// JavaScript glue for WebAssembly, and pages in a headless Chromium.
#[derive(Debug, Parser)]
#[command(name = "xtask-browser")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes the module that a page imports from a `.wasm` that cargo built
    Bindgen {
        /// The file that cargo built, as `target/wasm32-unknown-unknown/release/NAME.wasm`
        #[arg(long)]
        wasm: PathBuf,
        /// The folder for the module, `NAME.js` and `NAME_bg.wasm`
        #[arg(long)]
        out: PathBuf,
    },
    /// Opens pages in a headless Chromium and prints what the script returns, one line of JSON for each page
    Run(Run),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The folder to serve
    #[arg(long)]
    root: PathBuf,
    /// Path of the page below the folder; may be given several times
    #[arg(long = "page", required = true)]
    pages: Vec<String>,
    /// File with the body of an async function that runs in the page
    #[arg(long)]
    script: Option<PathBuf>,
    /// Where to write a picture of the last page
    #[arg(long)]
    screenshot: Option<PathBuf>,
    /// Width of the window in pixels
    #[arg(long, default_value_t = 1000)]
    width: u32,
    /// Height of the window in pixels
    #[arg(long, default_value_t = 800)]
    height: u32,
    /// Shows the page to a reader who prefers dark colors
    #[arg(long)]
    dark: bool,
    /// Seconds for each page
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Bindgen { wasm, out } => xtask_browser::bindgen::bindgen(&wasm, &out).map(|files| {
            for (file, bytes) in files {
                println!("{bytes:>9} bytes  {}", out.join(file).display());
            }
        }),
        Verb::Run(args) => run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Run) -> Result<()> {
    let script = args
        .script
        .map(|path| {
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))
        })
        .transpose()?;
    let options = Options {
        script,
        screenshot: args.screenshot,
        width: args.width,
        height: args.height,
        dark: args.dark,
        timeout: Duration::from_secs(args.timeout),
    };
    for value in xtask_browser::open(&args.root, &args.pages, &options)? {
        println!("{value}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
