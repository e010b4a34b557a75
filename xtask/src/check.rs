//! `cargo xtask check`: what continuous integration runs, cheapest first, so that a slip shows early.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::architecture;
use crate::{bench, book, cargo, command, deps, fuzz, plots, test, tidy, wasm};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these steps, in this order
    #[arg(value_enum, value_name = "STEP")]
    steps: Vec<Step>,
    /// Leave out the slow steps: run fmt, tidy, deps and clippy
    #[arg(long, conflicts_with = "steps")]
    fast: bool,
    /// Leave out the step `wasm`
    #[arg(long)]
    skip_wasm: bool,
    /// Leave out the step `test`
    #[arg(long)]
    skip_test: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The layout of the code
    Fmt,
    /// What reviewers forget
    Tidy,
    /// Dependencies against ARCHITECTURE.md
    Deps,
    /// Lints: the workspace with everything on
    Clippy,
    /// Lints: each library alone with its default features
    ClippyAlone,
    /// The documentation, warnings as errors
    Doc,
    /// Method crates without default features, one by one: they compile, and pass their tests without threads
    NoDefault,
    /// Method crates compile for WebAssembly
    Wasm,
    /// Lints: the benches, without other libraries
    Benches,
    /// Lints: the fuzz targets, which are a workspace of their own
    Fuzz,
    /// The figures of the book against their functions
    Plots,
    /// The book: anchors, links, recorded outputs, translations
    Book,
    /// Every test
    Test,
    /// The oldest toolchain that `rust-version` promises (only when named: it installs that toolchain)
    Msrv,
}

impl Step {
    const FAST: [Self; 4] = [Self::Fmt, Self::Tidy, Self::Deps, Self::Clippy];
    const ALL: [Self; 13] = [
        Self::Fmt,
        Self::Tidy,
        Self::Deps,
        Self::Clippy,
        Self::ClippyAlone,
        Self::Doc,
        Self::NoDefault,
        Self::Wasm,
        Self::Benches,
        Self::Fuzz,
        Self::Plots,
        Self::Book,
        Self::Test,
    ];

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let steps = chosen(args);
    if steps.is_empty() {
        bail!("every step is left out");
    }
    let mut times = Vec::new();
    for step in steps {
        println!("== {}", step.name());
        let start = Instant::now();
        run_step(step).with_context(|| format!("check stopped at `{}`", step.name()))?;
        times.push(format!(
            "{} {:.0} s",
            step.name(),
            start.elapsed().as_secs_f64()
        ));
    }
    println!("check: all is well ({})", times.join(", "));
    Ok(())
}

fn chosen(args: &Args) -> Vec<Step> {
    let mut steps = match (&args.steps[..], args.fast) {
        ([], true) => Step::FAST.to_vec(),
        ([], false) => Step::ALL.to_vec(),
        (steps, _) => steps.to_vec(),
    };
    steps.retain(|step| match step {
        Step::Wasm => !args.skip_wasm,
        Step::Test => !args.skip_test,
        _ => true,
    });
    steps
}

fn run_step(step: Step) -> Result<()> {
    let root = cargo::root();
    let cargo = || command::cargo(&root);
    match step {
        Step::Fmt => command::run(cargo().args(["fmt", "--all", "--check"])),
        Step::Tidy => tidy::run(),
        Step::Deps => deps::check(),
        Step::Clippy => command::run(cargo().args([
            "clippy",
            "--workspace",
            "--exclude",
            bench::PACKAGE,
            "--all-targets",
            "--all-features",
            "--",
            "-Dwarnings",
        ])),
        Step::ClippyAlone => {
            for package in cargo::packages(&root)?
                .iter()
                .filter(|package| package.has_lib)
            {
                let args = [
                    "clippy",
                    "--package",
                    &package.name,
                    "--lib",
                    "--",
                    "-Dwarnings",
                ];
                command::run(cargo().args(args))?;
            }
            Ok(())
        }
        // Libraries only: the program and the umbrella have the same crate name, so their pages would collide.
        Step::Doc => command::run(cargo().env("RUSTDOCFLAGS", "-Dwarnings").args([
            "doc",
            "--workspace",
            "--exclude",
            bench::PACKAGE,
            "--lib",
            "--no-deps",
            "--all-features",
        ])),
        Step::NoDefault => no_default(&root),
        Step::Wasm => wasm::build(&root, "check", &[]),
        Step::Benches => command::run(cargo().args([
            "clippy",
            "--package",
            bench::PACKAGE,
            "--all-targets",
            "--",
            "-Dwarnings",
        ])),
        Step::Fuzz => fuzz::check(&root),
        Step::Plots => plots::run(&plots::Args { check: true }),
        Step::Book => book::check(&root),
        Step::Test => test::all(),
        Step::Msrv => {
            let version = cargo::rust_version(&root)?;
            let mut rustup = std::process::Command::new("rustup");
            command::run(rustup.args(["toolchain", "install", &version, "--profile", "minimal"]))?;
            let mut rustup = std::process::Command::new("rustup");
            rustup
                .current_dir(&root)
                .args(["run", &version, "cargo", "check", "--workspace"])
                .args(["--exclude", bench::PACKAGE]);
            command::run(rustup.args(["--all-features", "--target-dir", "target/msrv"]))
        }
    }
}

/// Each crate alone: together, another's dependency could turn on what this one forgot to ask for.
fn no_default(root: &Path) -> Result<()> {
    let mut untested = Vec::new();
    for package in architecture::picked(root)? {
        let alone = ["--package", &package.name, "--no-default-features"];
        command::run(command::cargo(root).args(["check", "--lib"]).args(alone))?;
        if package.tests_plain {
            command::run(command::cargo(root).args(["test", "--tests"]).args(alone))?;
        } else {
            untested.push(package.name);
        }
    }
    if !untested.is_empty() {
        println!(
            "not tested without default features, because they lack `fast` or their tests turn it on: {}",
            untested.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(steps: &[Step], fast: bool, skip_wasm: bool, skip_test: bool) -> Args {
        Args {
            steps: steps.to_vec(),
            fast,
            skip_wasm,
            skip_test,
        }
    }

    #[test]
    fn everything_is_checked_unless_left_out() {
        assert_eq!(chosen(&args(&[], false, false, false)), Step::ALL);
        let most = chosen(&args(&[], false, true, true));
        let left: Vec<Step> = [&Step::ALL[..7], &Step::ALL[8..12]].concat();
        assert_eq!(most, left);
    }

    #[test]
    fn fast_is_the_cheap_beginning_of_all() {
        assert_eq!(chosen(&args(&[], true, false, false)), Step::ALL[..4]);
    }

    #[test]
    fn named_steps_run_alone_and_in_order() {
        let steps = [Step::Doc, Step::Fmt];
        assert_eq!(chosen(&args(&steps, false, false, false)), steps);
    }
}
