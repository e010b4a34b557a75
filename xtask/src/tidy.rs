//! `cargo xtask tidy`: finds what reviewers forget. Each rule is a function from files to findings.

mod crates;
pub(crate) mod documents;
mod text;

use anyhow::{Result, bail};

use crate::cargo;
use crate::tree::{Finding, Tree};

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: [Rule; 16] = [
    text::module_docs,
    text::whitespace,
    text::length,
    text::machine_paths,
    text::unfinished,
    text::vague_names,
    crates::files,
    crates::manifests,
    crates::changelogs,
    crates::method_files,
    crates::data_readmes,
    documents::present,
    documents::licences,
    documents::crate_table,
    documents::code_map,
    documents::rust_version,
];

/// Runs the verb.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::read(&cargo::root())?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    findings.sort();
    findings.dedup();
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => {
            println!(
                "tidy: {} files, {} rules, nothing found",
                tree.paths().count(),
                RULES.len()
            );
            Ok(())
        }
        n => bail!("tidy found {n} problem{}", if n == 1 { "" } else { "s" }),
    }
}
