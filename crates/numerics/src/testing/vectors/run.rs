//! The runner: every file of a crate on every tier.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::report::Outcome;
use super::{Case, Failure, Tier, VectorError, VectorReport};

/// Which files to run, and on which tiers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VectorRun {
    /// The crate as a Rust identifier without `llm_`, as `chat_format`: the first word of its ops.
    pub crate_name: String,
    /// The committed folder, which must hold at least one file that runs.
    pub folder: PathBuf,
    /// A folder `<crate>/<op>/` of more files; `None` for none.
    pub extra: Option<PathBuf>,
    /// The tiers, in the order in which they run.
    pub tiers: Vec<Tier>,
    /// Run these ops only; empty for all. The others count as run elsewhere.
    pub only: Vec<String>,
    /// Leave these ops to another crate's tests.
    pub elsewhere: Vec<String>,
}

impl VectorRun {
    /// The files of a crate on [`Tier::Reference`] and [`Tier::Cpu`]; `extra` is the folder in the environment variable `LLM_VECTORS`.
    #[must_use]
    pub fn new(crate_name: &str, folder: impl Into<PathBuf>) -> Self {
        Self {
            crate_name: crate_name.to_owned(),
            folder: folder.into(),
            extra: std::env::var_os("LLM_VECTORS")
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from),
            tiers: vec![Tier::Reference, Tier::Cpu],
            only: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// Sets the [`tiers`](Self::tiers).
    #[must_use]
    pub fn with_tiers(mut self, tiers: &[Tier]) -> Self {
        self.tiers = tiers.to_vec();
        self
    }

    /// Sets the [`extra`](Self::extra) folder, whatever the environment says.
    #[must_use]
    pub fn with_extra(mut self, extra: Option<PathBuf>) -> Self {
        self.extra = extra;
        self
    }

    /// Sets [`only`](Self::only): full names (`attention.mla.module`), or a prefix and `*` (`moe.block.*`).
    #[must_use]
    pub fn with_only(mut self, ops: &[&str]) -> Self {
        self.only = ops.iter().map(|&op| op.to_owned()).collect();
        self
    }

    /// Sets [`elsewhere`](Self::elsewhere), in the form of [`with_only`](Self::with_only).
    #[must_use]
    pub fn with_elsewhere(mut self, ops: &[&str]) -> Self {
        self.elsewhere = ops.iter().map(|&op| op.to_owned()).collect();
        self
    }

    fn runs(&self, op: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => op.starts_with(prefix),
            None => op == pattern,
        };
        (self.only.is_empty() || self.only.iter().any(matches))
            && !self.elsewhere.iter().any(matches)
    }
}

/// Runs every file of a crate on every tier, prints the table, and panics if anything failed.
///
/// `run` executes one case on one tier: it reads parameters and inputs and compares the outputs. It returns
/// [`Case::unknown_op`] for an op that the crate does not have and [`Case::unsupported`] where the op has no form on the tier.
///
/// # Panics
///
/// With all failures, if a file is unreadable, malformed or in a wrong place; an op, a parameter or a tensor is unknown, left unread or
/// not compared; a value differs; the op returns an error or panics; no tier runs a file; or the committed folder has none.
#[track_caller]
pub fn run_crate(config: &VectorRun, run: impl FnMut(&mut Case, Tier) -> Result<(), VectorError>) {
    let report = collect(config, run);
    println!("{report}");
    if !report.failures.is_empty() {
        let list: Vec<String> = report.failures.iter().map(Failure::to_string).collect();
        panic!(
            "{} failures in the vector files of {}:\n{}",
            list.len(),
            config.crate_name,
            list.join("\n")
        );
    }
}

/// [`run_crate`] without printing and without a panic.
pub fn collect(
    config: &VectorRun,
    mut run: impl FnMut(&mut Case, Tier) -> Result<(), VectorError>,
) -> VectorReport {
    let mut report = VectorReport {
        lines: Vec::new(),
        failures: Vec::new(),
        elsewhere: 0,
        notes: Vec::new(),
    };
    let fail = |report: &mut VectorReport, path: &Path, error| {
        report.failures.push(Failure {
            path: path.to_owned(),
            tier: None,
            error,
        });
    };

    let committed = find_files(&config.folder, &mut report);
    let extra = match &config.extra {
        None => Vec::new(),
        Some(folder) if !folder.is_dir() => {
            fail(
                &mut report,
                folder,
                VectorError::Unreadable("no folder where LLM_VECTORS points".to_owned()),
            );
            Vec::new()
        }
        Some(folder) if !folder.join(&config.crate_name).is_dir() => {
            report
                .notes
                .push(format!("LLM_VECTORS has no folder {}", config.crate_name));
            Vec::new()
        }
        Some(folder) => find_files(&folder.join(&config.crate_name), &mut report),
    };

    let mut found = 0;
    for (path, is_committed) in committed
        .iter()
        .map(|path| (path, true))
        .chain(extra.iter().map(|path| (path, false)))
    {
        let mut case =
            match Case::read(path).and_then(|case| check_place(config, path, is_committed, case)) {
                Ok(case) => case,
                Err(error) => {
                    fail(&mut report, path, error);
                    continue;
                }
            };
        if config.runs(&case.op) {
            found += usize::from(is_committed);
            run_case(config, path, &mut case, &mut run, &mut report);
        } else {
            report.elsewhere += 1;
        }
    }
    if found == 0 {
        fail(&mut report, &config.folder, VectorError::NoFiles);
    }
    report
}

/// One file on every tier.
fn run_case(
    config: &VectorRun,
    path: &Path,
    case: &mut Case,
    run: &mut impl FnMut(&mut Case, Tier) -> Result<(), VectorError>,
    report: &mut VectorReport,
) {
    let mut ran = false;
    for &tier in &config.tiers {
        case.reset(tier);
        let result = catch_unwind(AssertUnwindSafe(|| run(case, tier)));
        let errors = match result {
            Ok(Ok(())) => case.leftovers(),
            Ok(Err(VectorError::TierUnsupported(reason))) => {
                let note = format!("{} skipped on {}: {reason}", case.op, tier.name());
                if !report.notes.contains(&note) {
                    report.notes.push(note);
                }
                report.count(&case.op, tier, Outcome::Skipped, None);
                continue;
            }
            Ok(Err(error)) => vec![error],
            Err(payload) => vec![VectorError::Panicked(panic_text(payload.as_ref()))],
        };
        ran = true;
        let outcome = if errors.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        report.count(&case.op, tier, outcome, case.worst.take());
        report
            .failures
            .extend(errors.into_iter().map(|error| Failure {
                path: path.to_owned(),
                tier: Some(tier),
                error,
            }));
    }
    // Without an adapter a run on the GPU alone may skip everything; any other run must check each file once.
    if !ran && config.tiers != [Tier::Gpu] {
        report.failures.push(Failure {
            path: path.to_owned(),
            tier: None,
            error: VectorError::NoTier,
        });
    }
}

/// The op must belong to the crate; in the committed folder also to the folder.
fn check_place(
    config: &VectorRun,
    path: &Path,
    is_committed: bool,
    case: Case,
) -> Result<Case, VectorError> {
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let (krate, op) = case.op.split_once('.').unwrap_or((&case.op, ""));
    if krate == config.crate_name && !op.is_empty() && (!is_committed || op == folder) {
        return Ok(case);
    }
    let last = if is_committed { &folder } else { "<op>" };
    Err(VectorError::Place {
        expected: format!("{}.{last}", config.crate_name),
        got: case.op,
    })
}

/// `<folder>/<op>/*.safetensors`, sorted. What cannot be listed is a failure.
fn find_files(folder: &Path, report: &mut VectorReport) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for op_folder in list(folder, report)
        .into_iter()
        .filter(|path| path.is_dir())
    {
        let inside = list(&op_folder, report);
        if inside
            .iter()
            .any(|path| path.ends_with("config.json") || path.ends_with("adapter_config.json"))
        {
            report.notes.push(format!(
                "{} is a checkpoint, not an op",
                op_folder.display()
            ));
            continue;
        }
        files.extend(inside.into_iter().filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "safetensors")
        }));
    }
    files
}

fn list(folder: &Path, report: &mut VectorReport) -> Vec<PathBuf> {
    let entries: Result<Vec<PathBuf>, std::io::Error> =
        std::fs::read_dir(folder).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        });
    match entries {
        Ok(mut entries) => {
            entries.sort();
            entries
        }
        Err(error) => {
            let error = VectorError::Unreadable(error.to_string());
            report.failures.push(Failure {
                path: folder.to_owned(),
                tier: None,
                error,
            });
            Vec::new()
        }
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not text")
        .to_owned()
}
