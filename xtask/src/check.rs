//! `cargo xtask check`: what continuous integration runs, cheapest first, so that a slip shows early.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::architecture::{self, Layer};
use crate::cargo::{self, Package};
use crate::{command, deps, plots, test, tidy};

const WASM: &str = "wasm32-unknown-unknown";

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
    /// The figures of the book against their functions
    Plots,
    /// Every test
    Test,
    /// The oldest toolchain that `rust-version` promises (only when named: it installs that toolchain)
    Msrv,
}

impl Step {
    const FAST: [Self; 4] = [Self::Fmt, Self::Tidy, Self::Deps, Self::Clippy];
    const ALL: [Self; 10] = [
        Self::Fmt,
        Self::Tidy,
        Self::Deps,
        Self::Clippy,
        Self::ClippyAlone,
        Self::Doc,
        Self::NoDefault,
        Self::Wasm,
        Self::Plots,
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
        Step::Deps => deps::run(),
        Step::Clippy => command::run(cargo().args([
            "clippy",
            "--workspace",
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
            "--lib",
            "--no-deps",
            "--all-features",
        ])),
        Step::NoDefault => no_default(&root),
        Step::Wasm => wasm(&root),
        Step::Plots => plots::run(&plots::Args { check: true }),
        Step::Test => test::all(),
        Step::Msrv => {
            let version = cargo::rust_version(&root)?;
            let mut rustup = std::process::Command::new("rustup");
            command::run(rustup.args(["toolchain", "install", &version, "--profile", "minimal"]))?;
            let mut rustup = std::process::Command::new("rustup");
            rustup
                .current_dir(&root)
                .args(["run", &version, "cargo", "check", "--workspace"]);
            command::run(rustup.args(["--all-features", "--target-dir", "target/msrv"]))
        }
    }
}

/// The crates that users pick one by one: base and method layer.
fn picked(root: &Path) -> Result<Vec<Package>> {
    let text = std::fs::read_to_string(root.join(architecture::PATH))
        .with_context(|| format!("cannot read {}", architecture::PATH))?;
    let rows = architecture::rows(&text)?;
    let layer = |package: &Package| {
        rows.iter()
            .find(|row| row.package == package.name)
            .map(|row| row.layer)
    };
    let picked: Vec<Package> = cargo::packages(root)?
        .into_iter()
        .filter(|package| matches!(layer(package), Some(Layer::Base | Layer::Method)))
        .collect();
    if picked.is_empty() {
        bail!(
            "{} names no base or method crate of the workspace",
            architecture::PATH
        );
    }
    Ok(picked)
}

/// Each crate alone: together, another's dependency could turn on what this one forgot to ask for.
fn no_default(root: &Path) -> Result<()> {
    let mut untested = Vec::new();
    for package in picked(root)? {
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

fn wasm(root: &Path) -> Result<()> {
    if !has_wasm_target()? {
        let mut rustup = std::process::Command::new("rustup");
        let add = rustup.current_dir(root).args(["target", "add", WASM]);
        command::run(add).with_context(|| {
            format!("the target {WASM} cannot be had; install it, or pass --skip-wasm")
        })?;
    }
    let packages = picked(root)?;
    for features in [&["--no-default-features"][..], &[]] {
        let mut command = command::cargo(root);
        command
            .args(["check", "--lib", "--target", WASM])
            .args(features);
        for package in &packages {
            command.args(["--package", &package.name]);
        }
        command::run(&mut command)?;
    }
    Ok(())
}

/// True if the standard library for WebAssembly lies in the toolchain, whoever put it there.
fn has_wasm_target() -> Result<bool> {
    let mut rustc = std::process::Command::new("rustc");
    let folder = command::read(rustc.args(["--print", "target-libdir", "--target", WASM]))?;
    Ok(Path::new(folder.trim()).is_dir())
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
        assert_eq!(most, [&Step::ALL[..7], &[Step::Plots]].concat());
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
