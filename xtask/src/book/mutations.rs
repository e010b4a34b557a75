//! One-line mutations that the pages show, and how the tests fail on them, recorded.
//!
//! A file of `book/listings/mutations` looks so; the test must fail with the second line in the place of the first:
//!
//! ```text
//! # crates/posenc/src/alibi.rs
//! # cargo test -p llm-posenc --test it properties::alibi::some_law
//! -    let right = 1;
//! +    let wrong = 2;
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// Folders that a copy of the workspace does not need.
const LEFT_OUT: [&str; 6] = ["target", ".git", "html", "runs", ".venv", ".vectors-venv"];
/// Seed of the property tests, so that each run finds the same counterexample.
const SEED: &str = "1";

/// One mutation.
#[derive(Debug, PartialEq, Eq)]
struct Mutation {
    /// Stem of its file.
    name: String,
    /// The mutated file, from the root.
    file: String,
    /// Arguments of cargo.
    test: Vec<String>,
    right: String,
    wrong: String,
}

/// Checks that each mutation still finds its line, once.
pub(super) fn applicable(root: &Path) -> Result<()> {
    let mutations = read(root)?;
    for mutation in &mutations {
        mutate(root, mutation)?;
    }
    println!(
        "book outputs: {} mutations find their line",
        mutations.len()
    );
    Ok(())
}

/// Runs each mutation in a copy of the workspace and records the failure, or compares.
pub(super) fn run(root: &Path, check: bool) -> Result<()> {
    let mutations = read(root)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let copy = target.join("book-mutations");
    // A target folder of its own: Cargo tells crates apart by their path in the workspace, so it would take the copy's for those of `root`.
    let target = target.join("book-mutations-target");
    for mutation in &mutations {
        let text = mutate(root, mutation)?;
        sync(root, &copy)?;
        std::fs::write(copy.join(&mutation.file), text)
            .with_context(|| format!("cannot write {}", mutation.file))?;
        let failure = failure(&copy, &target, mutation)?;
        let file = format!(
            "{}/listings/output/mutation_{}.txt",
            super::FOLDER,
            mutation.name
        );
        super::record(&root.join(file), &failure, check)?;
        println!("book outputs: the mutation `{}` is noticed", mutation.name);
    }
    Ok(())
}

fn read(root: &Path) -> Result<Vec<Mutation>> {
    let folder = root.join(super::FOLDER).join("listings/mutations");
    super::entries(&folder)?
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            parse(&name, &text).with_context(|| path.display().to_string())
        })
        .collect()
}

fn parse(name: &str, text: &str) -> Result<Mutation> {
    let lines: Vec<&str> = text.lines().collect();
    let [file, test, right, wrong] = lines[..] else {
        bail!(
            "a mutation has 4 lines (file, test, right, wrong), got {}",
            lines.len()
        );
    };
    let after = |line: &'static str, mark: &str, value: &str| {
        value
            .strip_prefix(mark)
            .map(str::to_owned)
            .with_context(|| format!("the {line} begins with `{mark}`, got `{value}`"))
    };
    let test = after("second line", "# cargo ", test)?;
    Ok(Mutation {
        name: name.to_owned(),
        file: after("first line", "# ", file)?,
        test: test.split_whitespace().map(str::to_owned).collect(),
        right: after("third line", "-", right)?,
        wrong: after("fourth line", "+", wrong)?,
    })
}

/// The text of the mutated file.
fn mutate(root: &Path, mutation: &Mutation) -> Result<String> {
    let text = std::fs::read_to_string(root.join(&mutation.file))
        .with_context(|| format!("mutation {}: cannot read {}", mutation.name, mutation.file))?;
    let n = text.lines().filter(|line| *line == mutation.right).count();
    if n != 1 {
        bail!(
            "mutation {}: its line must be in {} once, got {n}: {}",
            mutation.name,
            mutation.file,
            mutation.right
        );
    }
    let lines: Vec<&str> = text
        .lines()
        .map(|line| {
            if line == mutation.right {
                &mutation.wrong
            } else {
                line
            }
        })
        .collect();
    Ok(lines.join("\n") + "\n")
}

/// Makes the copy equal to the workspace. Files that are equal keep their time, so that cargo builds little.
fn sync(from: &Path, to: &Path) -> Result<()> {
    let error = || format!("cannot copy {}", from.display());
    std::fs::create_dir_all(to).with_context(error)?;
    let mut names = Vec::new();
    for path in super::entries(from)? {
        let Some(name) = path.file_name().map(ToOwned::to_owned) else {
            continue;
        };
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let copy = to.join(&name);
        if path.is_dir() {
            sync(&path, &copy)?;
        } else if path.is_file() {
            let new = std::fs::read(&path).with_context(error)?;
            if std::fs::read(&copy).ok().as_ref() != Some(&new) {
                std::fs::write(&copy, new).with_context(error)?;
            }
        }
        names.push(name);
    }
    for path in super::entries(to)? {
        let is_known = path
            .file_name()
            .is_some_and(|name| names.iter().any(|n| n == name));
        if !is_known && path.is_file() {
            std::fs::remove_file(&path).with_context(error)?;
        }
    }
    Ok(())
}

/// Runs the test, which must fail, and returns what it said.
fn failure(copy: &Path, target: &Path, mutation: &Mutation) -> Result<String> {
    let mut command = command::cargo(copy);
    command
        .args(&mutation.test)
        .env("CARGO_TARGET_DIR", target)
        .env("PROPTEST_RNG_SEED", SEED)
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .env("RUST_BACKTRACE", "0");
    let line = command::describe(&command);
    println!("$ {line}");
    let output = command
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        bail!("the mutation {} is not noticed by `{line}`", mutation.name);
    }
    said(&text).with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!(
            "mutation {}: no test failed:\n{text}{errors}",
            mutation.name
        )
    })
}

/// What a failing test said: without times, numbers of threads and lines, counts and advice. A test that panics says so for each
/// smaller input that it tries; the last of these stays.
fn said(text: &str) -> Option<String> {
    let (_, said) = text.split_once("\nfailures:\n\n")?;
    let (said, _) = said.split_once("\nfailures:\n")?;
    let title = said.lines().next().unwrap_or_default();
    let last = said.rfind("\nthread '").map_or(said, |at| &said[at..]);
    let said = format!("{title}\n\n{}", last.trim_start_matches(title));
    let left_out = [
        "note: run with",
        "successes:",
        "local rejects:",
        "global rejects:",
    ];
    let mut out = String::new();
    let mut empty = true;
    for line in said.lines() {
        if left_out
            .iter()
            .any(|start| line.trim_start().starts_with(start))
        {
            continue;
        }
        let line = without_thread(&without_lines(line.trim_end()));
        if line.is_empty() && empty {
            continue;
        }
        empty = line.is_empty();
        out.push_str(&line);
        out.push('\n');
    }
    Some(out.trim_end().to_owned() + "\n")
}

/// `file.rs:12:34` as `file.rs`: the numbers change with every edit above.
fn without_lines(line: &str) -> String {
    let mut parts = line.split(".rs:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(".rs");
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
        if rest.len() == part.len() {
            out.push(':');
        }
        out.push_str(rest);
    }
    out
}

/// `thread 'name' (123) panicked at` without the number.
fn without_thread(line: &str) -> String {
    let Some((name, place)) = line.split_once(") panicked at ") else {
        return line.to_owned();
    };
    let name = name.rsplit_once(" (").map_or(name, |(name, _)| name);
    format!("{name} panicked at {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutation_has_four_lines() {
        let text = "# a/b.rs\n# cargo test -p x y\n-  1\n+  2\n";
        let mutation = parse("m", text).unwrap();
        assert_eq!(mutation.file, "a/b.rs");
        assert_eq!(mutation.test, ["test", "-p", "x", "y"]);
        assert_eq!((&*mutation.right, &*mutation.wrong), ("  1", "  2"));
        assert!(parse("m", "# a\n").is_err());
        assert!(parse("m", &text.replace("-  1", "   1")).is_err());
    }

    #[test]
    fn what_changes_from_run_to_run_is_left_out() {
        let text = "running 1 test\n\nfailures:\n\n---- a::b stdout ----\n\nthread 'a::b' (77) panicked at x.rs:1:2:\nyes\n\n\
                    thread 'a::b' (77) panicked at x.rs:1:2:\nno at y.rs:9.  \n\tsuccesses: 3\nnote: run with `RUST_BACKTRACE=1`\n\n\nfailures:\n    a::b\n\ntest result: FAILED in 0.3 s\n";
        let want = "---- a::b stdout ----\n\nthread 'a::b' panicked at x.rs\nno at y.rs.\n";
        assert_eq!(said(text).as_deref(), Some(want));
        assert_eq!(said("error: could not compile"), None);
    }
}
