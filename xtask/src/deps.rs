//! `cargo xtask deps`: the edges between our crates equal the table in ARCHITECTURE.md, and method crates stay small.
//!
//! A new edge is no crime; it just has to be written down, so that a reviewer sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::architecture::{self, Layer, Row};
use crate::cargo::{self, Package};
use crate::{command, fuzz};

/// Most crates from outside that a method crate may build without default features, procedural macros included.
const MOST_WITHOUT_DEFAULT: usize = 24;
/// The same with default features.
const MOST_WITH_DEFAULT: usize = 50;

/// Base crates whose external crates are counted and shown, but not limited: wgpu alone is about 60 crates, and whoever wants a GPU wants
/// them. That is why a method crate takes `llm-gpu` behind a feature only, and keeps to the limits without it.
const UNLIMITED: [&str; 1] = ["llm-gpu"];
/// Longest cold build of a method crate without default features, on two cores with nothing else to do.
const LONGEST_BUILD: Duration = Duration::from_secs(30);

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Instead, build this crate from nothing without default features, and say how long it takes
    #[arg(long, value_name = "CRATE")]
    cold: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.cold {
        Some(name) => cold(name),
        None => check(),
    }
}

/// What someone waits for who adds the crate to a project: everything downloaded, nothing built.
fn cold(name: &str) -> Result<()> {
    let root = cargo::root();
    let packages = cargo::packages(&root)?;
    let package = cargo::find(&packages, name)?;
    command::run(command::cargo(&root).args(["fetch", "--locked"]))?;
    let folder = std::env::temp_dir().join(format!("llm-blocks-cold-{}", std::process::id()));
    let mut build = command::cargo(&root);
    build.args(["build", "--release", "--lib", "--offline"]);
    build.args(["--package", &package.name, "--no-default-features"]);
    build.arg("--target-dir").arg(&folder);
    let start = Instant::now();
    let outcome = command::run(&mut build);
    let time = start.elapsed();
    std::fs::remove_dir_all(&folder)
        .with_context(|| format!("cannot remove {}", folder.display()))?;
    outcome?;
    println!(
        "{}: {:.1} s from nothing, without default features; on two cores it must be at most {} s",
        package.name,
        time.as_secs_f64(),
        LONGEST_BUILD.as_secs()
    );
    if time > LONGEST_BUILD {
        bail!("the build took too long, unless the machine has other work");
    }
    Ok(())
}

/// The comparison, as `check` runs it.
pub(crate) fn check() -> Result<()> {
    let root = cargo::root();
    locked(&root)?;
    let packages = cargo::packages(&root)?;
    let text = std::fs::read_to_string(root.join(architecture::PATH))
        .with_context(|| format!("cannot read {}", architecture::PATH))?;
    let rows = architecture::rows(&text)?;

    let mut problems = differences(&packages, &rows);
    problems.extend(forbidden(&packages, &rows));

    println!(
        "External crates of each crate that users pick (host target, procedural macros included):"
    );
    println!(
        "{:<28} {:>16} {:>16}",
        "crate", "without default", "with default"
    );
    for row in &rows {
        let counted = matches!(row.layer, Layer::Base | Layer::Method);
        if !counted || !packages.iter().any(|package| package.name == row.package) {
            continue;
        }
        let without = external(&root, &row.package, &["--no-default-features"])?;
        let with = external(&root, &row.package, &[])?;
        println!(
            "{:<28} {:>16} {:>16}",
            row.package,
            without.len(),
            with.len()
        );
        if UNLIMITED.contains(&&*row.package) {
            continue;
        }
        problems.extend(too_many(
            &row.package,
            "without default features",
            &without,
            MOST_WITHOUT_DEFAULT,
        ));
        problems.extend(too_many(
            &row.package,
            "with default features",
            &with,
            MOST_WITH_DEFAULT,
        ));
    }

    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => {
            println!("deps: {} crates as {} says", rows.len(), architecture::PATH);
            Ok(())
        }
        n => bail!("deps found {n} problem{}", if n == 1 { "" } else { "s" }),
    }
}

/// The lock files hold what the manifests ask for. The fuzz targets are a workspace of their own, whose lock file no other command of a
/// day's work touches.
fn locked(root: &Path) -> Result<()> {
    for manifest in ["Cargo.toml", fuzz::MANIFEST] {
        let args = ["metadata", "--locked", "--format-version", "1"];
        let mut metadata = command::cargo(root);
        command::read(metadata.args(args).args(["--manifest-path", manifest])).with_context(
            || format!("the lock file beside {manifest} is stale; mend it with: cargo update --workspace --manifest-path {manifest}"),
        )?;
    }
    Ok(())
}

/// What the table and the manifests say differently.
fn differences(packages: &[Package], rows: &[Row]) -> Vec<String> {
    let path = architecture::PATH;
    let mut problems = Vec::new();
    for package in packages {
        let Some(row) = rows.iter().find(|row| row.package == package.name) else {
            let row = truth(package, Layer::Method, 0);
            problems.push(format!(
                "{path}: `{}` is not in the dependency table; add (with the right layer):\n    {row}",
                package.name
            ));
            continue;
        };
        let truth = truth(package, row.layer, row.line);
        if *row == truth {
            continue;
        }
        let mut details = Vec::new();
        for (name, optional) in &truth.needs {
            match row.needs.get(name) {
                None => details.push(format!(
                    "its manifest needs `{name}`, the table does not say so"
                )),
                Some(said) if said != optional => {
                    details.push(format!(
                        "the table is wrong on whether `{name}` is optional"
                    ));
                }
                Some(_) => {}
            }
        }
        for name in row
            .needs
            .keys()
            .filter(|name| !truth.needs.contains_key(*name))
        {
            details.push(format!(
                "the table says that it needs `{name}`, its manifest does not"
            ));
        }
        for name in truth.tests_need.difference(&row.tests_need) {
            details.push(format!(
                "its tests need `{name}`, the table does not say so"
            ));
        }
        for name in row.tests_need.difference(&truth.tests_need) {
            details.push(format!(
                "the table says that its tests alone need `{name}`, its manifest does not"
            ));
        }
        problems.push(format!(
            "{path}:{}: `{}`: {}; if the manifest is right, the row must be:\n    {truth}",
            row.line,
            package.name,
            details.join("; ")
        ));
    }
    for row in rows {
        if !packages.iter().any(|package| package.name == row.package) {
            problems.push(format!(
                "{path}:{}: there is no crate `{}`; remove its row",
                row.line, row.package
            ));
        }
    }
    problems
}

/// Edges that no table entry can make right.
fn forbidden(packages: &[Package], rows: &[Row]) -> Vec<String> {
    let layers: BTreeMap<&str, Layer> = rows
        .iter()
        .map(|row| (row.package.as_str(), row.layer))
        .collect();
    let mut problems = Vec::new();
    for package in packages {
        let Some(&layer) = layers.get(package.name.as_str()) else {
            continue;
        };
        for (other, &optional) in &package.needs {
            let Some(&to) = layers.get(other.as_str()) else {
                continue;
            };
            if !layer.may_need(to, optional) {
                problems.push(format!(
                    "{}/Cargo.toml: a {layer} crate must not depend on the {to} crate `{other}`: \
                     pass arrays or a closure, or move the shared part to `llm-numerics`",
                    package.folder
                ));
            }
        }
        if layer == Layer::Tool && !package.tests_need.is_empty() {
            problems.push(format!(
                "{}/Cargo.toml: a tool must not depend on our crates, not even in tests",
                package.folder
            ));
        }
    }
    problems
}

/// The row that the manifest calls for.
fn truth(package: &Package, layer: Layer, line: usize) -> Row {
    Row {
        package: package.name.clone(),
        layer,
        needs: package.needs.clone(),
        tests_need: package.tests_need.clone(),
        line,
    }
}

/// Name and version of every crate from outside the workspace that a build of the package compiles.
fn external(root: &Path, package: &str, features: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = command::cargo(root);
    command.args(["tree", "--package", package, "--edges", "normal,build"]);
    command
        .args(["--prefix", "none", "--format", "{p}"])
        .args(features);
    Ok(parse_tree(&command::read(&mut command)?))
}

/// The crates in the output of `cargo tree --prefix none --format {p}`; ours come with a path.
fn parse_tree(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, version) = (words.next()?, words.next()?);
            let ours = words.any(|word| word.starts_with('(') && word.contains(['/', '\\']));
            (!ours).then(|| format!("{name} {version}"))
        })
        .collect()
}

fn too_many(package: &str, how: &str, crates: &BTreeSet<String>, most: usize) -> Option<String> {
    (crates.len() > most).then(|| {
        let list: Vec<_> = crates.iter().map(String::as_str).collect();
        format!(
            "{package} {how}: at most {most} external crates, got {}: {}",
            crates.len(),
            list.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::Optional;

    fn package(name: &str, needs: &[(&str, Optional)], tests_need: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            folder: format!("crates/{name}"),
            needs: needs
                .iter()
                .map(|(name, optional)| ((*name).to_owned(), *optional))
                .collect(),
            tests_need: tests_need.iter().map(|name| (*name).to_owned()).collect(),
            features: BTreeSet::new(),
            has_lib: true,
            tests_plain: true,
            has_gpu: false,
        }
    }

    fn row(package: &Package, layer: Layer) -> Row {
        truth(package, layer, 7)
    }

    #[test]
    fn equal_edges_are_no_difference() {
        let lora = package("lora", &[("quant", Optional::Yes)], &["ffn"]);
        assert_eq!(
            differences(std::slice::from_ref(&lora), &[row(&lora, Layer::Method)]),
            [""; 0]
        );
    }

    #[test]
    fn an_edge_that_the_table_lacks_is_reported_with_the_row() {
        let old = package("lora", &[], &[]);
        let new = package("lora", &[("numerics", Optional::No)], &[]);
        let problems = differences(&[new], &[row(&old, Layer::Method)]);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].contains("its manifest needs `numerics`"),
            "{}",
            problems[0]
        );
        assert!(
            problems[0].contains("| `lora` | method | `numerics` | – |"),
            "{}",
            problems[0]
        );
        assert!(
            problems[0].starts_with("ARCHITECTURE.md:7:"),
            "{}",
            problems[0]
        );
    }

    #[test]
    fn an_edge_that_only_the_table_has_is_reported() {
        let old = package("lora", &[("numerics", Optional::No)], &["ffn"]);
        let new = package("lora", &[], &[]);
        let problems = differences(&[new], &[row(&old, Layer::Method)]);
        assert!(
            problems[0].contains("says that it needs `numerics`"),
            "{}",
            problems[0]
        );
        assert!(
            problems[0].contains("tests alone need `ffn`"),
            "{}",
            problems[0]
        );
    }

    #[test]
    fn an_edge_that_is_optional_on_one_side_only_is_reported() {
        let old = package("lora", &[("quant", Optional::Yes)], &[]);
        let new = package("lora", &[("quant", Optional::No)], &[]);
        let problems = differences(&[new], &[row(&old, Layer::Method)]);
        assert!(
            problems[0].contains("whether `quant` is optional"),
            "{}",
            problems[0]
        );
    }

    #[test]
    fn a_crate_without_row_and_a_row_without_crate_are_reported() {
        let (a, b) = (package("a", &[], &[]), package("b", &[], &[]));
        let problems = differences(&[a], &[row(&b, Layer::Method)]);
        assert_eq!(problems.len(), 2);
        assert!(
            problems[0].contains("`a` is not in the dependency table"),
            "{}",
            problems[0]
        );
        assert!(problems[1].contains("no crate `b`"), "{}", problems[1]);
    }

    #[test]
    fn a_method_crate_that_needs_another_is_refused_even_when_written_down() {
        let ffn = package("ffn", &[], &[]);
        let moe = package("moe", &[("ffn", Optional::No)], &[]);
        let rows = [row(&ffn, Layer::Method), row(&moe, Layer::Method)];
        let problems = forbidden(&[ffn, moe], &rows);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("crates/moe/Cargo.toml:"),
            "{}",
            problems[0]
        );
    }

    #[test]
    fn a_tool_that_tests_with_our_crates_is_refused() {
        let ffn = package("ffn", &[], &[]);
        let xtask = package("xtask", &[], &["ffn"]);
        let rows = [row(&ffn, Layer::Method), row(&xtask, Layer::Tool)];
        assert_eq!(forbidden(&[ffn, xtask], &rows).len(), 1);
    }

    #[test]
    fn the_tree_is_counted_once_per_version_and_without_ours() {
        let text = "llm-ffn v0.1.0 (/r/crates/ffn)\nndarray v0.17.2\n\
                    thiserror-impl v2.0.21 (proc-macro)\nndarray v0.17.2 (*)\nsyn v2.0.1\nsyn v3.0.1\n";
        let want = [
            "ndarray v0.17.2",
            "syn v2.0.1",
            "syn v3.0.1",
            "thiserror-impl v2.0.21",
        ];
        assert_eq!(parse_tree(text).into_iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn one_crate_too_many_is_reported_with_the_list() {
        let crates = BTreeSet::from(["a v1".to_owned(), "b v1".to_owned()]);
        assert_eq!(too_many("llm-x", "with default features", &crates, 2), None);
        let problem = too_many("llm-x", "with default features", &crates, 1).unwrap();
        assert_eq!(
            problem,
            "llm-x with default features: at most 1 external crates, got 2: a v1, b v1"
        );
    }
}
