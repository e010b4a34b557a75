//! What the listings print, recorded for the pages.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::command;

/// The package with the listings.
const PACKAGE: &str = "llm-blocks-listings";
/// Examples of other packages that the book shows.
const OTHERS: [(&str, &str); 7] = [
    ("llm-kvcache", "compute_or_memory"),
    ("llm-kvcache", "light_boat"),
    ("llm-posenc", "rope_is_relative"),
    ("llm-quant", "bits_a_weight"),
    ("llm-sampling", "beam_repeats"),
    ("llm-sampling", "forbidden_tokens"),
    ("llm-sampling", "seven_modes"),
];

/// Runs each listing and records what it prints, or compares.
pub(super) fn run(root: &Path, check: bool) -> Result<()> {
    let folder = root.join(super::FOLDER).join("listings");
    let mut listings: Vec<(String, String)> = OTHERS
        .map(|(package, name)| (package.to_owned(), name.to_owned()))
        .to_vec();
    for path in super::entries(&folder.join("examples"))? {
        let name = path
            .file_stem()
            .with_context(|| format!("{} has no name", path.display()))?;
        listings.push((PACKAGE.to_owned(), name.to_string_lossy().into_owned()));
    }
    for (package, name) in &listings {
        let mut command = command::cargo(root);
        command.args(["run", "--quiet", "--package", package, "--example", name]);
        let text = command::read(&mut command)?;
        super::record(
            &folder.join("output").join(format!("{name}.txt")),
            &text,
            check,
        )?;
    }
    println!(
        "book outputs: {} listings {}",
        listings.len(),
        if check {
            "print what is recorded"
        } else {
            "recorded"
        }
    );
    Ok(())
}
