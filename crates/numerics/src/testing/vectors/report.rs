//! What a run of vector files found, and its table.

use std::fmt;
use std::path::PathBuf;

use super::{Tier, VectorError};
use crate::testing::Comparison;

/// The outcome of one op on one tier: a line of the table.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OpLine {
    /// The op with its crate.
    pub op: String,
    /// The tier.
    pub tier: Tier,
    /// Number of files that ran, failed ones included.
    pub ran: usize,
    /// Number of files that failed.
    pub failed: usize,
    /// Number of files for which the op has no form on this tier.
    pub skipped: usize,
    /// The comparison with the largest error over allowed error; `None` if nothing was compared.
    pub worst: Option<Comparison>,
}

/// One failed rule of one file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// The file or folder.
    pub path: PathBuf,
    /// The tier; `None` if the file failed before it ran.
    pub tier: Option<Tier>,
    /// What was wrong.
    pub error: VectorError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = self.tier.map_or("", Tier::name);
        let space = if tier.is_empty() { "" } else { " " };
        write!(f, "{}{space}{tier}: {}", self.path.display(), self.error)
    }
}

/// Everything that a run found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VectorReport {
    /// One line for each op and tier, sorted.
    pub lines: Vec<OpLine>,
    /// Every failure, in the order of the files.
    pub failures: Vec<Failure>,
    /// Number of files that another crate's tests run.
    pub elsewhere: usize,
    /// What else a reader should know: skipped folders, reasons for skipped tiers.
    pub notes: Vec<String>,
}

impl VectorReport {
    /// Counts one file on one tier.
    pub(super) fn count(
        &mut self,
        op: &str,
        tier: Tier,
        outcome: Outcome,
        worst: Option<Comparison>,
    ) {
        let place = self
            .lines
            .binary_search_by(|line| (line.op.as_str(), line.tier).cmp(&(op, tier)));
        let place = place.unwrap_or_else(|place| {
            let line = OpLine {
                op: op.to_owned(),
                tier,
                ran: 0,
                failed: 0,
                skipped: 0,
                worst: None,
            };
            self.lines.insert(place, line);
            place
        });
        let line = &mut self.lines[place];
        match outcome {
            Outcome::Passed => line.ran += 1,
            Outcome::Failed => (line.ran, line.failed) = (line.ran + 1, line.failed + 1),
            Outcome::Skipped => line.skipped += 1,
        }
        if let Some(worst) = worst
            && line
                .worst
                .as_ref()
                .is_none_or(|old| worst.worst_ratio > old.worst_ratio)
        {
            line.worst = Some(worst);
        }
    }
}

/// How one file ended on one tier.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

impl fmt::Display for VectorReport {
    /// The table, then notes, then failures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .lines
            .iter()
            .map(|line| line.op.len())
            .max()
            .unwrap_or(0)
            .max(2);
        writeln!(
            f,
            "{:width$}  {:9}  {:>5}  {:>6}  {:>7}  {:>10}  {:>10}",
            "op", "tier", "ran", "failed", "skipped", "worst", "allowed"
        )?;
        for OpLine {
            op,
            tier,
            ran,
            failed,
            skipped,
            worst,
        } in &self.lines
        {
            let (error, allowed) = match worst.as_ref().and_then(|found| found.worst.as_ref()) {
                Some(worst) if worst.got == worst.want => {
                    ("0".to_owned(), format!("{:.2e}", worst.allowed))
                }
                Some(worst) => (
                    format!("{:.2e}", (worst.got - worst.want).abs()),
                    format!("{:.2e}", worst.allowed),
                ),
                None => ("-".to_owned(), "-".to_owned()),
            };
            writeln!(
                f,
                "{op:width$}  {:9}  {ran:>5}  {failed:>6}  {skipped:>7}  {error:>10}  {allowed:>10}",
                tier.name()
            )?;
        }
        if self.elsewhere > 0 {
            writeln!(
                f,
                "note: {} files belong to the tests of another crate",
                self.elsewhere
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED {failure}")?;
        }
        Ok(())
    }
}
