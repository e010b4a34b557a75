//! `cargo xtask gpu LANE`: the tests of compute shaders, in lanes that find different mistakes.
//!
//! Crates take part that have a feature `gpu` and shaders of their own (`src/gpu.rs`), and `llm-gpu` itself. By convention their tests are in the modules `gpu` (parity, errors),
//! `gpu::shaders` (no driver needed) and `vectors` of the test program `it`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::cargo::{self, Package};
use crate::{bench, command, gpu_browser};

/// The crate that owns the device: all its tests belong here.
const DEVICE_CRATE: &str = "llm-gpu";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which lane to run
    #[arg(value_enum, value_name = "LANE")]
    lane: Lane,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lane {
    /// Shaders against the reference on the adapter that there is; fails without one
    Parity,
    /// The same as a lesser device: no subgroups, no f16, the limits that every browser has
    Portable,
    /// What needs no driver: parsed, validated, parameters compared, built for three kinds of device
    Shaders,
    /// Every portable kernel through the strict compiler of a headless Chromium, and a parity test there
    Browser,
    /// Collects the test programs in a folder, to be carried to a machine with a real GPU
    Device,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = cargo::root();
    let packages: Vec<Package> = cargo::packages(&root)?
        .into_iter()
        .filter(|package| {
            let has_shaders = || root.join(&package.folder).join("src/gpu.rs").is_file();
            (package.has_gpu && has_shaders()) || package.name == DEVICE_CRATE
        })
        .collect();
    match args.lane {
        Lane::Parity => test(&root, &packages, args.lane, &[("LLM_GPU", "require")]),
        Lane::Portable => {
            let mask = ("LLM_GPU_MASK", "subgroups,f16,limits");
            test(&root, &packages, args.lane, &[("LLM_GPU", "require"), mask])
        }
        Lane::Shaders => test(&root, &packages, args.lane, &[("LLM_GPU", "off")]),
        Lane::Browser => gpu_browser::run(),
        Lane::Device => device(&root, &packages),
    }
}

/// The words that choose the tests of a lane.
fn filters(package: &Package, lane: Lane) -> &'static [&'static str] {
    match (lane, package.name == DEVICE_CRATE) {
        (Lane::Shaders, true) => &["shaders"],
        (Lane::Shaders, false) => &["gpu::shaders"],
        (_, true) => &[],
        (_, false) => &["gpu::", "vectors::"],
    }
}

fn test(root: &Path, packages: &[Package], lane: Lane, variables: &[(&str, &str)]) -> Result<()> {
    // Built as `cargo xtask test` builds them, so that a run of several lanes compiles the tests once.
    let mut build = command::cargo(root);
    build.args(["test", "--workspace", "--exclude", bench::PACKAGE]);
    build.args(["--all-features", "--test", "it", "--no-run"]);
    build.arg("--message-format=json-render-diagnostics");
    println!("$ {}", command::describe(&build));
    let messages = command::read(&mut build)?;
    let mut report = Vec::new();
    for package in packages {
        let folder = root.join(&package.folder);
        let program = executable(&messages, &folder)
            .with_context(|| format!("cargo built no test program of {}", package.name))?;
        let mut command = Command::new(program);
        command.current_dir(&folder).envs(variables.iter().copied());
        command.args(filters(package, lane));
        let passed = passed(&command::run_and_read(&mut command)?);
        if passed == 0 {
            bail!(
                "no test of {} belongs to this lane, so nothing was shown",
                package.name
            );
        }
        report.push(format!("{} {passed}", package.name));
    }
    println!("gpu: tests passed: {}", report.join(", "));
    Ok(())
}

/// Tests that passed, by the lines that the harness ends with.
fn passed(output: &str) -> usize {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next())
        .filter_map(|n| n.parse::<usize>().ok())
        .sum()
}

/// Collects the test programs, with a script that runs them.
fn device(root: &Path, packages: &[Package]) -> Result<()> {
    let folder = root.join("target/gpu-device");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let mut script = String::from(
        "#!/bin/sh\n# Runs the GPU tests on the machine where it lies.\nset -eu\ncd \"$(dirname \"$0\")\"\n",
    );
    for package in packages {
        let mut command = command::cargo(root);
        command.args(["test", "--package", &package.name, "--all-features"]);
        command.args([
            "--test",
            "it",
            "--release",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ]);
        println!("$ {}", command::describe(&command));
        let program = executable(&command::read(&mut command)?, &root.join(&package.folder))
            .with_context(|| format!("cargo built no test program of {}", package.name))?;
        let name = &package.name;
        std::fs::copy(&program, folder.join(name))
            .with_context(|| format!("cannot copy {program}"))?;
        let filters: Vec<String> = filters(package, Lane::Parity)
            .iter()
            .filter(|filter| !filter.starts_with("vectors")) // their files stay here
            .map(|filter| format!(" {filter}"))
            .collect();
        writeln!(script, "LLM_GPU=require ./{name}{}", filters.concat())?;
    }
    let path = folder.join("run.sh");
    std::fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "gpu: copy {} to a machine with a GPU and its Vulkan driver (same processor and at least the same C library), and run there: \
         sh run.sh",
        folder.display()
    );
    Ok(())
}

/// The test program of the package in this folder, in what `cargo test --no-run --message-format=json` prints.
fn executable(messages: &str, folder: &Path) -> Option<String> {
    let manifest = folder.join("Cargo.toml");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| message["target"]["name"] == "it")
        .filter(|message| message["manifest_path"].as_str().map(Path::new) == Some(&manifest))
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_added_up() {
        let output = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored\n\
                      test result: ok. 40 passed; 0 failed\n";
        assert_eq!(passed(output), 42);
        assert_eq!(passed("test result: ok. 0 passed; 0 failed"), 0);
        assert_eq!(passed(""), 0);
    }

    #[test]
    fn the_test_program_is_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"llm_gpu"},"manifest_path":"/r/gpu/Cargo.toml","executable":null}
{"reason":"compiler-artifact","target":{"name":"it"},"manifest_path":"/r/ffn/Cargo.toml","executable":"/t/it-0"}
{"reason":"compiler-artifact","target":{"name":"it"},"manifest_path":"/r/gpu/Cargo.toml","executable":"/t/it-1"}
{"reason":"build-finished","success":true}"#;
        let found = |folder| executable(messages, Path::new(folder));
        assert_eq!(found("/r/gpu").as_deref(), Some("/t/it-1"));
        assert_eq!(found("/r/moe"), None);
        assert_eq!(executable("not json", Path::new("/r")), None);
    }
}
