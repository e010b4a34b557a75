//! The figures of llm-blocks: each case beside what the machine can do at best and beside other libraries, all timed in
//! the same rounds. `cargo xtask bench` builds this and runs it.
//!
//! One file for each crate's cases; [`CRATES`] lists them.

mod attention;
mod case;
mod decoder;
mod growth;
mod kvcache;
mod limits;
mod measure;
mod peers;
mod posenc;
mod quant;
mod sampling;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use serde_json::json;

use crate::case::{Plan, Setup};
use crate::growth::Growth;
use crate::limits::Limits;
use crate::measure::Contender;
use crate::peers::Python;
use crate::table::{PeerTime, Row, scaled, time};

/// The crates with cases, without `llm-`.
const CRATES: [(&str, Plans); 6] = [
    ("posenc", posenc::plans),
    ("attention", attention::plans),
    ("sampling", sampling::plans),
    ("kvcache", kvcache::plans),
    ("decoder", decoder::plans),
    ("quant", quant::plans),
];

/// The crates with calls whose memory is measured, without `llm-`.
const GROWTHS: [(&str, Growths); 1] = [("attention", attention::growths)];

/// A crate's list of cases.
type Plans = fn() -> Vec<Plan>;

/// A crate's list of calls whose memory is measured.
type Growths = fn() -> Vec<Growth>;

/// What to assume where the system does not say how large its cache is.
const UNKNOWN_CACHE: usize = 64 << 20;

/// Times the cases of the crates.
#[derive(Debug, Parser)]
struct Args {
    /// Only this crate, without `llm-`
    package: Option<String>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// Samples of each contender
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Fail if a figure misses what is asked of it
    #[arg(long)]
    strict: bool,
    /// Write every sample to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Python interpreter and script that serve peers
    #[arg(long, num_args = 2, value_names = ["PYTHON", "SCRIPT"])]
    python: Option<Vec<PathBuf>>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (plans, growths) = chosen(&args)?;
    let threads = rayon::current_num_threads();
    let cache_bytes = cache_bytes(Path::new("/sys/devices/system/cpu/cpu0/cache"));
    let python = match args.python.as_deref() {
        Some([python, script]) => Some(Python::start(python, script, threads)?),
        _ => None,
    };
    let setup = Setup {
        threads,
        cache_bytes: cache_bytes.unwrap_or(UNKNOWN_CACHE),
        python,
    };
    println!(
        "threads: {threads} (RAYON_NUM_THREADS changes it); last-level cache: {} MiB{}",
        setup.cache_bytes >> 20,
        if cache_bytes.is_some() {
            ""
        } else {
            " (assumed)"
        },
    );

    let mut limits = Limits::new(&setup);
    let [copy, read, product] = limits.rates(args.rounds.min(7))?;
    println!(
        "limits before the cases: copy {}/s (read plus written), read {}/s, gemm in f32 {}/s",
        scaled(copy, "B"),
        scaled(read, "B"),
        scaled(product, "FLOP"),
    );

    let (mut rows, mut judged) = (Vec::new(), Vec::new());
    for (package, plan) in plans {
        let row = timed(package, &plan, &setup, &mut limits, args.rounds)
            .with_context(|| format!("{package} {}", plan.name))?;
        println!(
            "{package} {}: {}, {} of the limit",
            row.case,
            time(row.ours.median()),
            row.of_limit()
        );
        judged.extend(row.judged(plan.bars));
        rows.push(row);
    }
    let mut peaks = Vec::new();
    for (package, growth) in growths {
        let measured = growth.measured(package);
        let measured = measured.with_context(|| format!("{package} {}", growth.name))?;
        judged.push(measured.judged());
        peaks.push(measured);
    }
    if !rows.is_empty() {
        println!("\n{}", table::markdown(&rows));
    }
    if !peaks.is_empty() {
        println!("\n{}", table::memory(&peaks));
    }
    for bar in &judged {
        println!("{} {}", if bar.reached { "✓" } else { "✗" }, bar.line);
    }
    if let Some(file) = &args.json {
        let report = json!({
            "threads": threads,
            "cache_bytes": setup.cache_bytes,
            "copy_bytes_per_second": copy,
            "read_bytes_per_second": read,
            "product_operations_per_second": product,
            "rows": table::json(&rows),
            "memory": peaks.iter().map(growth::Peaks::json).collect::<Vec<_>>(),
        });
        std::fs::write(file, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = judged.iter().filter(|bar| !bar.reached).count();
    if args.strict && missed > 0 {
        bail!("{missed} of {} bars are missed", judged.len());
    }
    Ok(())
}

/// Items with their crates.
type Chosen<T> = Vec<(&'static str, T)>;

/// The plans and the calls that the command line asks for.
fn chosen(args: &Args) -> Result<(Chosen<Plan>, Chosen<Growth>)> {
    let names = CRATES.map(|(name, _)| name).join(", ");
    let wanted = args.package.as_deref();
    let is_wanted = |package: &str| wanted.is_none_or(|wanted| wanted == package);
    let (mut plans, mut growths) = (Vec::new(), Vec::new());
    for (package, cases) in CRATES {
        if is_wanted(package) {
            plans.extend(cases().into_iter().map(|plan| (package, plan)));
        }
    }
    for (package, calls) in GROWTHS {
        if is_wanted(package) {
            growths.extend(calls().into_iter().map(|growth| (package, growth)));
        }
    }
    if plans.is_empty() {
        bail!("the crate must be one of {names}, got {wanted:?}");
    }
    if let Some(text) = &args.case {
        plans.retain(|(_, plan)| plan.name.contains(&**text));
        growths.retain(|(_, growth)| growth.name.contains(&**text));
        if plans.is_empty() && growths.is_empty() {
            bail!("no case has `{text}` in its name");
        }
    }
    Ok((plans, growths))
}

/// Builds the case, which compares the results, and times it.
fn timed(
    package: &str,
    plan: &Plan,
    setup: &Setup,
    limits: &mut Limits,
    rounds: usize,
) -> Result<Row> {
    let mut case = (plan.build)(setup)?;
    let mut contenders: Vec<&mut dyn Contender> = vec![limits.contender(case.work)];
    contenders.push(&mut *case.ours);
    for peer in &mut case.peers {
        contenders.push(&mut *peer.contender);
    }
    let mut samples = measure::race(&mut contenders, rounds)?.into_iter();
    let (Some(limit), Some(ours)) = (samples.next(), samples.next()) else {
        bail!("a case has at least its limit and ours");
    };
    let peers = case.peers.into_iter().zip(samples);
    Ok(Row {
        package: package.to_owned(),
        case: plan.name.clone(),
        work: case.work,
        ours,
        limit: limits.time_of(case.work, &limit),
        peers: peers
            .map(|(peer, time)| PeerTime {
                library: peer.library,
                version: peer.version,
                time,
            })
            .collect(),
    })
}

/// The size of the largest cache of the first core, as Linux tells it.
fn cache_bytes(folder: &Path) -> Option<usize> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let sizes = entries.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("size")).ok()?;
        let (number, unit) = text.trim().split_at_checked(text.trim().len() - 1)?;
        let unit = match unit {
            "K" => 1 << 10,
            "M" => 1 << 20,
            _ => return None,
        };
        number.parse::<usize>().ok()?.checked_mul(unit)
    });
    sizes.max()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn names_of_cases_are_unique() {
        let mut seen = BTreeSet::new();
        for (package, cases) in CRATES {
            for plan in cases() {
                assert!(seen.insert((package, plan.name.clone())), "{}", plan.name);
            }
        }
    }

    #[test]
    fn an_unknown_crate_or_case_is_an_error() {
        let chosen = |line: &[&str]| chosen(&Args::parse_from([&["bench"], line].concat()));
        assert!(chosen(&[]).is_ok());
        assert!(chosen(&["posenc", "--case", "rope"]).is_ok());
        let error = chosen(&["posenk"]).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("one of posenc")));
        assert!(chosen(&["--case", "no such case"]).is_err());
    }

    #[test]
    fn a_machine_that_does_not_tell_has_an_unknown_cache() {
        assert_eq!(cache_bytes(Path::new("no/such/folder")), None);
    }
}
