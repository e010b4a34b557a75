//! Reads the dependency table of ARCHITECTURE.md, the one place that says which crate may know which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, Optional, Package};

/// The file with the table.
pub(crate) const PATH: &str = "ARCHITECTURE.md";
/// The line before the table.
pub(crate) const BEGIN: &str = "<!-- deps:begin -->";
/// The line after the table.
pub(crate) const END: &str = "<!-- deps:end -->";

/// Where a crate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Knows no method: `numerics`, `gpu`.
    Base,
    /// One concept; knows only the base.
    Method,
    /// Puts methods together.
    Assembly,
    /// Has a `main`.
    Program,
    /// For developers; knows none of our crates.
    Tool,
}

impl Layer {
    const ALL: [Self; 5] = [
        Self::Base,
        Self::Method,
        Self::Assembly,
        Self::Program,
        Self::Tool,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Method => "method",
            Self::Assembly => "assembly",
            Self::Program => "program",
            Self::Tool => "tool",
        }
    }

    /// Whether a crate here may depend on one there. Method crates may know each other only behind a feature.
    pub(crate) fn may_need(self, other: Self, optional: Optional) -> bool {
        match self {
            Self::Base => other == Self::Base,
            Self::Method => {
                other == Self::Base || (other == Self::Method && optional == Optional::Yes)
            }
            Self::Assembly => matches!(other, Self::Base | Self::Method | Self::Assembly),
            Self::Program => other != Self::Tool,
            Self::Tool => false,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) package: String,
    pub(crate) layer: Layer,
    pub(crate) needs: BTreeMap<String, Optional>,
    pub(crate) tests_need: BTreeSet<String>,
    /// Line in ARCHITECTURE.md, from 1.
    pub(crate) line: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |words: Vec<String>| {
            if words.is_empty() {
                "–".to_owned()
            } else {
                words.join(", ")
            }
        };
        let needs = self.needs.iter().map(|(name, optional)| match optional {
            Optional::No => format!("`{name}`"),
            Optional::Yes => format!("`{name}` (optional)"),
        });
        let tests = self.tests_need.iter().map(|name| format!("`{name}`"));
        write!(
            f,
            "| `{}` | {} | {} | {} |",
            self.package,
            self.layer,
            cell(needs.collect()),
            cell(tests.collect())
        )
    }
}

/// The rows of the table in the text of ARCHITECTURE.md.
pub(crate) fn rows(text: &str) -> Result<Vec<Row>> {
    let missing =
        |marker| format!("{PATH} must have a line `{marker}` around the dependency table");
    let begin = text
        .lines()
        .position(|line| line == BEGIN)
        .with_context(|| missing(BEGIN))?;
    let end = text
        .lines()
        .position(|line| line == END)
        .with_context(|| missing(END))?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().take(end).skip(begin + 1) {
        if line.trim().is_empty() {
            continue;
        }
        let number = index + 1;
        let Some(cells) = cells(line) else {
            bail!("{PATH}:{number}: only the dependency table may stand here, got `{line}`");
        };
        let is_rule = cells
            .iter()
            .all(|cell| cell.chars().all(|c| c == '-' || c == ':'));
        if is_rule || cells.first() == Some(&"Crate") {
            continue;
        }
        let row = row(&cells, number).with_context(|| format!("{PATH}:{number}"))?;
        if rows.iter().any(|other: &Row| other.package == row.package) {
            bail!("{PATH}:{number}: `{}` has two rows; keep one", row.package);
        }
        rows.push(row);
    }
    if rows.is_empty() {
        bail!("{PATH}: the dependency table has no row");
    }
    Ok(rows)
}

/// The crates that users pick one by one: base and method layer.
pub(crate) fn picked(root: &Path) -> Result<Vec<Package>> {
    let text = std::fs::read_to_string(root.join(PATH))
        .with_context(|| format!("cannot read {}", PATH))?;
    let table = rows(&text)?;
    let layer = |package: &Package| {
        table
            .iter()
            .find(|row| row.package == package.name)
            .map(|row| row.layer)
    };
    let picked: Vec<Package> = cargo::packages(root)?
        .into_iter()
        .filter(|package| matches!(layer(package), Some(Layer::Base | Layer::Method)))
        .collect();
    if picked.is_empty() {
        bail!("{} names no base or method crate of the workspace", PATH);
    }
    Ok(picked)
}

/// The trimmed cells of a line of a Markdown table.
pub(crate) fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn row(cells: &[&str], line: usize) -> Result<Row> {
    let [package, layer, needs, tests_need] = cells else {
        bail!(
            "a row has 4 cells (crate, layer, needs, tests need too), got {}",
            cells.len()
        );
    };
    let layer = Layer::ALL
        .into_iter()
        .find(|known| known.word() == *layer)
        .with_context(|| {
            let words = Layer::ALL.map(Layer::word).join(", ");
            format!("the layer must be one of {words}, got `{layer}`")
        })?;
    let tests_need: BTreeMap<String, Optional> = edges(tests_need)?;
    Ok(Row {
        package: name(package)?.to_owned(),
        layer,
        needs: edges(needs)?,
        tests_need: tests_need.into_keys().collect(),
        line,
    })
}

fn edges(cell: &str) -> Result<BTreeMap<String, Optional>> {
    if cell == "–" {
        return Ok(BTreeMap::new());
    }
    cell.split(',')
        .map(|edge| {
            let edge = edge.trim();
            Ok(match edge.strip_suffix("(optional)") {
                Some(edge) => (name(edge.trim())?.to_owned(), Optional::Yes),
                None => (name(edge)?.to_owned(), Optional::No),
            })
        })
        .collect()
}

fn name(cell: &str) -> Result<&str> {
    cell.strip_prefix('`')
        .and_then(|cell| cell.strip_suffix('`'))
        .with_context(|| format!("a crate must be written as `name` in backticks, got {cell}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(rows: &str) -> String {
        format!("# A\n{BEGIN}\n| Crate | Layer | Needs | Tests |\n|---|---|---|---|\n{rows}{END}\n")
    }

    #[test]
    fn a_row_reads_as_it_prints() {
        let line = "| `llm-lora` | method | `llm-numerics`, `llm-quant` (optional) | `llm-ffn` |";
        let rows = rows(&document(&format!("{line}\n"))).unwrap();
        assert_eq!(rows[0].to_string(), line);
        assert_eq!(rows[0].needs["llm-quant"], Optional::Yes);
        assert_eq!(rows[0].line, 5);
    }

    #[test]
    fn a_table_without_markers_is_refused() {
        let error = rows("| `a` | base | – | – |\n").unwrap_err().to_string();
        assert!(error.contains(BEGIN), "{error}");
    }

    #[test]
    fn an_unknown_layer_is_refused() {
        let error = rows(&document("| `a` | basic | – | – |\n")).unwrap_err();
        assert!(format!("{error:#}").contains("got `basic`"), "{error:#}");
    }

    #[test]
    fn a_name_without_backticks_is_refused() {
        let error = rows(&document("| a | base | – | – |\n")).unwrap_err();
        assert!(format!("{error:#}").contains("backticks"), "{error:#}");
    }

    #[test]
    fn a_second_row_for_a_crate_is_refused() {
        let line = "| `a` | base | – | – |\n";
        let error = rows(&document(&line.repeat(2))).unwrap_err().to_string();
        assert!(error.contains("two rows"), "{error}");
    }

    #[test]
    fn method_crates_know_each_other_only_behind_a_feature() {
        assert!(Layer::Method.may_need(Layer::Base, Optional::No));
        assert!(Layer::Method.may_need(Layer::Method, Optional::Yes));
        assert!(!Layer::Method.may_need(Layer::Method, Optional::No));
        assert!(!Layer::Method.may_need(Layer::Assembly, Optional::Yes));
        assert!(!Layer::Base.may_need(Layer::Method, Optional::Yes));
        assert!(!Layer::Tool.may_need(Layer::Base, Optional::No));
    }
}
