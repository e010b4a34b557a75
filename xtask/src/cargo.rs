//! What cargo knows about the workspace: its packages and the edges between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command;

/// One package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Folder relative to the root, with `/`: `crates/posenc`.
    pub(crate) folder: String,
    /// Members that it depends on to build, and whether only behind a feature.
    pub(crate) needs: BTreeMap<String, Optional>,
    /// Members that only its tests, examples and benches depend on.
    pub(crate) tests_need: BTreeSet<String>,
    /// Names of its features.
    pub(crate) features: BTreeSet<String>,
    /// True if there is a library target.
    pub(crate) has_lib: bool,
    /// True if its tests, without default features, run without threads and SIMD: nothing that only they need turns
    /// the feature `fast` on again.
    pub(crate) tests_plain: bool,
    /// True if it has a feature `gpu` of its own, with kernels behind it.
    pub(crate) has_gpu: bool,
}

/// Whether a dependency is there only behind a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Optional {
    No,
    Yes,
}

/// The root folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match manifest.parent() {
        Some(root) => root.to_owned(),
        None => manifest,
    }
}

/// All packages of the workspace, by name. Needs no network.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let text = command::read(command::cargo(root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    parse(&serde_json::from_str(&text).context("`cargo metadata` printed invalid JSON")?)
}

/// The folder that cargo builds into.
pub(crate) fn target(root: &Path) -> Result<PathBuf> {
    let text = command::read(command::cargo(root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata = serde_json::from_str(&text).context("`cargo metadata` printed invalid JSON")?;
    Ok(PathBuf::from(self::text(&metadata, "target_directory")?))
}

/// The `rust-version` that the packages state.
pub(crate) fn rust_version(root: &Path) -> Result<String> {
    let text = command::read(command::cargo(root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let mut versions: Vec<&str> = list(&metadata, "packages")?
        .iter()
        .filter_map(|package| package["rust_version"].as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    match versions[..] {
        [version] => Ok(version.to_owned()),
        _ => bail!("the packages must state one rust-version, got {versions:?}"),
    }
}

/// The full name of a package that the user named with or without `llm-`.
pub(crate) fn find<'a>(packages: &'a [Package], name: &str) -> Result<&'a Package> {
    let by = |test: &dyn Fn(&Package) -> bool| packages.iter().find(|package| test(package));
    by(&|package| package.name == name)
        .or_else(|| by(&|package| package.name == format!("llm-{name}")))
        .or_else(|| by(&|package| package.folder == format!("crates/{name}")))
        .with_context(|| {
            let known: Vec<_> = packages
                .iter()
                .map(|package| package.name.as_str())
                .collect();
            format!(
                "no package `{name}` in the workspace; there are: {}",
                known.join(", ")
            )
        })
}

fn parse(metadata: &Value) -> Result<Vec<Package>> {
    let root = text(metadata, "workspace_root")?;
    let listed = list(metadata, "packages")?;
    let members: BTreeSet<&str> = listed
        .iter()
        .map(|package| text(package, "name"))
        .collect::<Result<_>>()?;
    let mut packages = Vec::new();
    for package in listed {
        let name = text(package, "name")?;
        let manifest = text(package, "manifest_path")?.replace('\\', "/");
        let root = root.replace('\\', "/");
        let folder = manifest
            .strip_prefix(&format!("{root}/"))
            .and_then(|path| path.strip_suffix("/Cargo.toml"))
            .with_context(|| format!("{manifest} is not inside {root}"))?;
        let mut needs = BTreeMap::new();
        let mut tests_need = BTreeSet::new();
        for dependency in list(package, "dependencies")? {
            let other = text(dependency, "name")?;
            // A path says that it is ours and not a namesake.
            if dependency["path"].is_null() || !members.contains(other) || other == name {
                continue;
            }
            if dependency["kind"] == "dev" {
                tests_need.insert(other.to_owned());
            } else {
                let optional = if dependency["optional"] == true {
                    Optional::Yes
                } else {
                    Optional::No
                };
                let edge = needs.entry(other.to_owned()).or_insert(optional);
                *edge = (*edge).min(optional);
            }
        }
        tests_need.retain(|other| !needs.contains_key(other));
        let has_lib = list(package, "targets")?
            .iter()
            .filter_map(|target| target["kind"].as_array())
            .flatten()
            .any(|kind| kind == "lib" || kind == "rlib" || kind == "proc-macro");
        let tests_plain = package["features"]["fast"].is_array()
            && list(package, "dependencies")?
                .iter()
                .filter(|dependency| dependency["kind"] == "dev" && !dependency["path"].is_null())
                .all(|dependency| dependency["uses_default_features"] == false);
        let features = package["features"].as_object();
        packages.push(Package {
            features: features.map_or_else(BTreeSet::new, |map| map.keys().cloned().collect()),
            name: name.to_owned(),
            folder: folder.to_owned(),
            needs,
            tests_need,
            has_lib,
            tests_plain,
            // The feature brings in `llm-gpu` itself; those of crates above only hand on to the crates below.
            has_gpu: list_of_texts(&package["features"]["gpu"]).any(|part| part == "dep:llm-gpu"),
        });
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

/// The texts of a list, or none if there is no list.
fn list_of_texts(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("`cargo metadata` has no text at `{key}`"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value]> {
    value[key]
        .as_array()
        .map(Vec::as_slice)
        .with_context(|| format!("`cargo metadata` has no list at `{key}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dependency(name: &str, kind: Option<&str>, optional: bool, path: bool) -> Value {
        let path = path.then(|| format!("/r/crates/{name}"));
        json!({
            "name": name,
            "kind": kind,
            "optional": optional,
            "path": path,
            "uses_default_features": true,
        })
    }

    fn metadata(dependencies: &[Value]) -> Value {
        let package = |name: &str, dependencies: &[Value]| {
            json!({
                "name": name,
                "manifest_path": format!("/r/crates/{name}/Cargo.toml"),
                "dependencies": dependencies,
                "targets": [{ "kind": ["lib"] }],
                "features": { "fast": [], "gpu": ["dep:llm-gpu", "a/gpu"], },
            })
        };
        json!({
            "workspace_root": "/r",
            "packages": [package("b", &[]), package("a", dependencies), package("c", &[])],
        })
    }

    #[test]
    fn features_are_listed() {
        let packages = parse(&metadata(&[])).unwrap();
        let names = ["fast", "gpu"].map(str::to_owned);
        assert_eq!(packages[0].features, BTreeSet::from(names));
    }

    #[test]
    fn edges_inside_the_workspace_are_sorted_by_kind() {
        let packages = parse(&metadata(&[
            dependency("b", None, true, true),
            dependency("c", Some("dev"), false, true),
            dependency("serde", None, false, false),
        ]))
        .unwrap();
        assert_eq!(packages[0].name, "a");
        assert_eq!(packages[0].folder, "crates/a");
        assert_eq!(
            packages[0].needs,
            BTreeMap::from([("b".to_owned(), Optional::Yes)])
        );
        assert_eq!(packages[0].tests_need, BTreeSet::from(["c".to_owned()]));
        assert!(!packages[0].tests_plain); // `c` comes with its default features
        assert!(packages[1].tests_plain);
        assert!(packages[0].has_gpu);
    }

    #[test]
    fn an_edge_that_is_also_needed_to_build_is_no_test_edge() {
        let packages = parse(&metadata(&[
            dependency("b", Some("dev"), false, true),
            dependency("b", None, false, true),
        ]))
        .unwrap();
        assert_eq!(
            packages[0].needs,
            BTreeMap::from([("b".to_owned(), Optional::No)])
        );
        assert!(packages[0].tests_need.is_empty());
    }

    #[test]
    fn a_namesake_from_elsewhere_is_not_ours() {
        let packages = parse(&metadata(&[dependency("b", None, false, false)])).unwrap();
        assert!(packages[0].needs.is_empty());
    }

    #[test]
    fn an_unknown_package_is_named_with_the_known_ones() {
        let packages = parse(&metadata(&[])).unwrap();
        let error = find(&packages, "posenk").unwrap_err().to_string();
        assert_eq!(
            error,
            "no package `posenk` in the workspace; there are: a, b, c"
        );
    }
}
