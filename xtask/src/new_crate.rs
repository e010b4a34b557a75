//! `cargo xtask new-crate`: the skeleton of a method crate, so that all crates have the same inside.
//!
//! It holds no example method and no test that proves nothing: each file says what belongs there.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::architecture::{self, Layer, Row};
use crate::cargo;
use crate::tidy::documents::{READMES, TABLE_END};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder's name, without `llm-`: lower-case words joined by hyphens, as `prompt-tuning`
    name: String,
    /// One sentence on what the crate is for
    #[arg(long, default_value = "Says in one sentence what this crate is for")]
    description: String,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    check_name(&args.name)?;
    if args.description.trim().is_empty() || args.description.contains(['"', '\\', '\n', '|']) {
        bail!(
            "the description must be one line of plain text without quotes, got {:?}",
            args.description
        );
    }
    let root = cargo::root();
    let folder = format!("crates/{}", args.name);
    if root.join(&folder).exists() {
        bail!("{folder} exists; choose another name");
    }
    for (path, text) in skeleton(&args.name, args.description.trim_end_matches('.')) {
        let file = root.join(&folder).join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("wrote {folder}/{path}");
    }

    let package = format!("llm-{}", args.name);
    let row = Row {
        package: package.clone(),
        layer: Layer::Method,
        needs: [("llm-numerics".to_owned(), cargo::Optional::No)].into(),
        tests_need: [].into(),
        line: 0,
    };
    edit(&root, architecture::PATH, |text| {
        before(text, architecture::END, &row.to_string())
    })?;
    let tick_row = format!(
        "| [`{package}`]({folder}) | {} | ✓ | – | – | not yet | – |",
        args.description
    );
    for readme in READMES {
        edit(&root, readme, |text| before(text, TABLE_END, &tick_row))?;
    }
    let dependency = format!(
        "{package} = {{ path = \"{folder}\", version = \"0.1.0\", default-features = false }}"
    );
    edit(&root, "Cargo.toml", |text| {
        after_last(text, "llm-", &dependency)
    })?;

    println!();
    println!("Left for you:");
    println!("- ARCHITECTURE.md: a paragraph in the code map that starts with **`{folder}`**");
    println!("- GLOSSARY.md: the words of the concept, before they are in an API");
    println!("- CONTRIBUTING.md has the eight steps for a method; then `cargo xtask check --fast`");
    Ok(())
}

/// Lower-case words joined by single hyphens, as cargo and the file system agree on.
fn check_name(name: &str) -> Result<()> {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if name.starts_with("llm-") {
        bail!("the name must come without `llm-`, which the package gets by itself, got `{name}`");
    }
    if !name.split('-').all(word) {
        bail!(
            "the name must be lower-case words joined by hyphens (as `prompt-tuning`), got `{name}`"
        );
    }
    Ok(())
}

fn edit(root: &Path, path: &str, change: impl Fn(&str) -> Result<String>) -> Result<()> {
    let file = root.join(path);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
    std::fs::write(&file, change(&text).with_context(|| path.to_owned())?)
        .with_context(|| format!("cannot write {path}"))?;
    println!("added to {path}");
    Ok(())
}

/// The text with a line put before the line `marker`.
fn before(text: &str, marker: &str, line: &str) -> Result<String> {
    if !text.lines().any(|other| other == marker) {
        bail!("there is no line `{marker}`; add by hand: {line}");
    }
    let lines = text.lines().flat_map(|other| {
        let new = (other == marker).then_some(line);
        new.into_iter().chain([other])
    });
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// The text with a line put after the last one that starts with `start`.
fn after_last(text: &str, start: &str, line: &str) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let Some(last) = lines.iter().rposition(|other| other.starts_with(start)) else {
        bail!("no line starts with `{start}`; add by hand: {line}");
    };
    let lines = lines.into_iter().enumerate().flat_map(|(index, other)| {
        let new = (index == last).then_some(line);
        [other].into_iter().chain(new)
    });
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// The files of the crate, by their paths in its folder.
fn skeleton(name: &str, description: &str) -> Vec<(&'static str, String)> {
    let fill = |text: &str| {
        text.replace("{name}", name)
            .replace("{ident}", &name.replace('-', "_"))
            .replace("{Error}", &error_name(name))
            .replace("{description}", description)
    };
    FILES
        .iter()
        .map(|(path, text)| (*path, fill(text)))
        .collect()
}

/// `prompt-tuning` → `PromptTuningError`
fn error_name(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.collect::<String>() + "Error"
}

/// What each file of a new crate says; `{name}` and the like are filled in.
const FILES: [(&str, &str); 13] = [
    ("Cargo.toml", include_str!("new_crate/Cargo.toml.txt")),
    ("README.md", include_str!("new_crate/README.md.txt")),
    ("CHANGELOG.md", include_str!("new_crate/CHANGELOG.md.txt")),
    ("src/lib.rs", include_str!("new_crate/lib.rs.txt")),
    ("src/error.rs", include_str!("new_crate/error.rs.txt")),
    (
        "src/reference.rs",
        include_str!("new_crate/reference.rs.txt"),
    ),
    ("tests/it/main.rs", include_str!("new_crate/main.rs.txt")),
    (
        "tests/it/errors.rs",
        include_str!("new_crate/errors.rs.txt"),
    ),
    (
        "tests/it/golden.rs",
        include_str!("new_crate/golden.rs.txt"),
    ),
    (
        "tests/it/properties.rs",
        include_str!("new_crate/properties.rs.txt"),
    ),
    (
        "tests/it/vectors.rs",
        include_str!("new_crate/vectors.rs.txt"),
    ),
    (
        "tests/data/README.md",
        include_str!("new_crate/data.md.txt"),
    ),
    (
        "examples/README.md",
        include_str!("new_crate/examples.md.txt"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_words() {
        for good in ["moe", "prompt-tuning", "kv2"] {
            check_name(good).unwrap();
        }
        for bad in [
            "",
            "Moe",
            "llm-moe",
            "prompt_tuning",
            "-moe",
            "moe-",
            "a--b",
            "2d",
            "a/b",
            "..",
            "é",
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for (path, text) in skeleton("prompt-tuning", "Tunes prompts") {
            for hole in ["{name}", "{ident}", "{Error}", "{description}"] {
                assert!(!text.contains(hole), "{path} still has {hole}");
            }
        }
        assert_eq!(error_name("prompt-tuning"), "PromptTuningError");
    }

    #[test]
    fn lines_are_put_where_they_belong() {
        assert_eq!(before("a\nm\nb\n", "m", "x").unwrap(), "a\nx\nm\nb\n");
        assert_eq!(
            after_last("k1\nk2\nb\n", "k", "x").unwrap(),
            "k1\nk2\nx\nb\n"
        );
        assert!(before("a\n", "m", "x").is_err());
        assert!(after_last("a\n", "k", "x").is_err());
    }
}
