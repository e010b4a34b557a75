//! The developer verbs of llm-blocks: `cargo xtask VERB`.
//!
//! One file per verb. Each prints the commands that it runs, so that anybody can run them by hand.
//! Exit code 1: something is wrong with the tree. Exit code 2: the command line was not understood.

mod architecture;
mod bench;
mod book;
mod browser;
mod cargo;
mod check;
mod command;
mod deps;
mod fuzz;
mod gpu;
mod gpu_browser;
mod mutants;
mod new_crate;
mod plots;
mod python;
mod test;
mod tidy;
mod tiny_model;
mod tree;
mod vectors;
mod wasm;
mod widgets;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer verbs of llm-blocks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs every test of the workspace, doctests included
    Test(test::Args),
    /// Runs what continuous integration runs, cheapest first
    Check(check::Args),
    /// Finds what reviewers forget: missing files, stray words, stale tables
    Tidy,
    /// Compares the crates' dependencies with the table in ARCHITECTURE.md
    Deps(deps::Args),
    /// Writes the skeleton of a new method crate
    NewCrate(new_crate::Args),
    /// Draws the figures of the book, or checks that they are as drawn
    Plots(plots::Args),
    /// Trains or evaluates the embedded model
    TinyModel(tiny_model::Args),
    /// Checks or regenerates the test vectors
    Vectors(vectors::Args),
    /// Builds, checks or tests the book
    Book(book::Args),
    /// Runs the tests of compute shaders, lane by lane
    Gpu(gpu::Args),
    /// Times the crates beside the limit of the machine, and beside other libraries
    Bench(bench::Args),
    /// Feeds constructors with anything (needs the nightly toolchain and cargo-fuzz)
    Fuzz(fuzz::Args),
    /// Builds the crates for WebAssembly, with each set of features
    Wasm(wasm::Args),
    /// Breaks a crate's fast path on purpose, many times, to see that its tests notice
    Mutants(mutants::Args),
    /// Builds the live figures of the book and compares them with the native functions in a headless Chromium
    Widgets,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Test(args) => test::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Tidy => tidy::run(),
        Verb::Deps(args) => deps::run(&args),
        Verb::NewCrate(args) => new_crate::run(&args),
        Verb::Plots(args) => plots::run(&args),
        Verb::TinyModel(args) => tiny_model::run(&args),
        Verb::Vectors(args) => vectors::run(&args),
        Verb::Book(args) => book::run(&args),
        Verb::Gpu(args) => gpu::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Wasm(args) => wasm::run(&args),
        Verb::Mutants(args) => mutants::run(&args),
        Verb::Widgets => widgets::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_verb_is_bad_usage() {
        let error = Cli::try_parse_from(["xtask", "tset"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSubcommand);
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn no_verb_is_bad_usage() {
        let error = Cli::try_parse_from(["xtask"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn flags_of_the_training_recipe_pass_through_tiny_model() {
        let line = ["xtask", "tiny-model", "train", "--steps", "20"];
        let Verb::TinyModel(args) = Cli::try_parse_from(line).unwrap().verb else {
            panic!("parsed as another verb");
        };
        assert_eq!(args.args, ["--steps", "20"]);
    }
}
