//! `cargo xtask test`: every test of the workspace, doctests included, in one run of cargo.
//!
//! Needs a Rust toolchain and nothing else.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{bench, cargo, command};

/// Arguments of the verb.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Test only this crate, with or without `llm-` (may be repeated)
    #[arg(short, long = "package", value_name = "CRATE")]
    pub(crate) packages: Vec<String>,
    /// More arguments for `cargo test`: a filter, `--release`, `--test it` …
    #[arg(value_name = "CARGO_ARGS", allow_hyphen_values = true)]
    pub(crate) cargo_args: Vec<String>,
    /// Arguments for the test programs: `--nocapture`, `--test-threads 1` …
    #[arg(last = true)]
    pub(crate) test_args: Vec<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let args = sorted(args)?;
    counting_skips(|skips| tests(&args, skips))
}

fn tests(args: &Args, skips: &Path) -> Result<()> {
    let root = cargo::root();
    let test = || {
        let mut command = command::cargo(&root);
        command.env("LLM_GPU_SKIPS", skips).arg("test");
        command
    };
    if args.packages.is_empty() {
        let others = ["--workspace", "--exclude", bench::PACKAGE];
        command::run(with(test().args(others).arg("--all-features"), args))?;
        if selects_targets(args) {
            return Ok(());
        }
        // On its own: its feature would bring along another framework, for nothing that is tested here.
        return command::run(with(test().args(["--package", bench::PACKAGE]), args));
    }
    let mut command = test();
    let packages = cargo::packages(&root)?;
    for name in &args.packages {
        command.args(["--package", &cargo::find(&packages, name)?.name]);
    }
    command::run(with(command.arg("--all-features"), args))
}

/// True if a flag picks kinds of targets (`--lib`, `--test it`), of which the benches may have none: an error for cargo.
fn selects_targets(args: &Args) -> bool {
    args.cargo_args
        .iter()
        .any(|arg| arg.starts_with("--") && arg != "--release")
}

/// The command with the arguments for cargo and for the test programs.
fn with<'a>(command: &'a mut Command, args: &Args) -> &'a mut Command {
    command.args(&args.cargo_args);
    if !args.test_args.is_empty() {
        command.arg("--").args(&args.test_args);
    }
    command
}

/// Runs tests, and says loudly afterwards how many of shaders were skipped.
fn counting_skips(tests: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let skips = std::env::temp_dir().join(format!("llm-gpu-skips-{}", std::process::id()));
    let outcome = tests(&skips);
    if let Some(notice) = notice(&std::fs::read_to_string(&skips).unwrap_or_default()) {
        eprintln!("{notice}");
    }
    // It is not there if nothing was skipped.
    let _ = std::fs::remove_file(&skips);
    outcome
}

/// What to say loudly about the tests that did not run, one to a line.
fn notice(skipped: &str) -> Option<String> {
    let n = skipped.lines().count();
    let reason = skipped.lines().next()?.rsplit(": ").next()?;
    Some(format!(
        "\n!! {n} GPU TESTS WERE SKIPPED ({reason}).\n\
         !! A green result says nothing about the shaders. With LLM_GPU=require it would have failed.\n"
    ))
}

/// The whole workspace, as `check` runs it.
pub(crate) fn all() -> Result<()> {
    run(&Args::default())
}

/// The arguments in their places: after the first that it does not know, the parser hands on everything as it is.
fn sorted(args: &Args) -> Result<Args> {
    let mut sorted = Args {
        packages: args.packages.clone(),
        ..Args::default()
    };
    let mut words = args.cargo_args.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            sorted.test_args.extend(words.by_ref().cloned());
        } else if word == "-p" || word == "--package" {
            let name = words
                .next()
                .with_context(|| format!("`{word}` must name a crate"))?;
            sorted.packages.push(name.clone());
        } else if let Some(name) = word.strip_prefix("--package=") {
            sorted.packages.push(name.to_owned());
        } else {
            sorted.cargo_args.push(word.clone());
        }
    }
    sorted.test_args.extend_from_slice(&args.test_args);
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Args {
        let line = Line::try_parse_from([&["test"], words].concat()).unwrap();
        sorted(&line.args).unwrap()
    }

    #[test]
    fn a_crate_a_filter_and_flags_are_told_apart_in_any_order() {
        let args = parse(&[
            "-p",
            "ffn",
            "rope",
            "--release",
            "-p",
            "llm-moe",
            "--",
            "--nocapture",
        ]);
        assert_eq!(args.packages, ["ffn", "llm-moe"]);
        assert_eq!(args.cargo_args, ["rope", "--release"]);
        assert_eq!(args.test_args, ["--nocapture"]);
    }

    #[test]
    fn flags_for_the_test_programs_need_nothing_before_them() {
        assert_eq!(
            parse(&["--", "--nocapture", "x"]).test_args,
            ["--nocapture", "x"]
        );
        let args = parse(&["-p", "ffn", "--", "--nocapture"]);
        assert_eq!(
            (args.packages, args.test_args),
            (vec!["ffn".into()], vec!["--nocapture".into()])
        );
    }

    #[test]
    fn a_flag_for_cargo_may_come_first() {
        let args = parse(&["--release", "--package=ffn", "--lib"]);
        assert_eq!(args.packages, ["ffn"]);
        assert_eq!(args.cargo_args, ["--release", "--lib"]);
    }

    #[test]
    fn skipped_tests_are_counted_and_the_reason_is_said() {
        assert_eq!(notice(""), None);
        let notice = notice("a::b: LLM_GPU=off\nc: LLM_GPU=off\n").unwrap();
        assert!(notice.contains("!! 2 GPU TESTS WERE SKIPPED (LLM_GPU=off)"));
    }

    #[test]
    fn a_filter_runs_in_the_benches_too_but_a_kind_of_target_does_not() {
        assert!(!selects_targets(&parse(&["rope", "--release"])));
        assert!(!selects_targets(&parse(&["--", "--nocapture"])));
        assert!(selects_targets(&parse(&["--lib"])));
        assert!(selects_targets(&parse(&["--test", "it"])));
    }

    #[test]
    fn a_package_without_name_is_an_error() {
        let args = Args {
            cargo_args: vec!["--lib".into(), "-p".into()],
            ..Args::default()
        };
        assert_eq!(
            sorted(&args).unwrap_err().to_string(),
            "`-p` must name a crate"
        );
    }
}
