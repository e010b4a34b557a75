//! The table that the reader sees, and the same as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::case::{Bars, Work};
use crate::growth::Peaks;
use crate::measure::Samples;

/// A case that was timed.
pub(crate) struct Row {
    pub(crate) package: String,
    pub(crate) case: String,
    pub(crate) work: Work,
    pub(crate) ours: Samples,
    /// The shortest time in which the machine could do it.
    pub(crate) limit: Samples,
    pub(crate) peers: Vec<PeerTime>,
}

/// Whether a figure reached what is asked of it.
pub(crate) struct Judged {
    pub(crate) reached: bool,
    pub(crate) line: String,
}

/// What a peer took.
pub(crate) struct PeerTime {
    pub(crate) library: String,
    pub(crate) version: String,
    pub(crate) time: Samples,
}

impl Row {
    /// Our share of the limit; 1 is all that the machine has.
    pub(crate) fn fraction(&self) -> f64 {
        self.limit.ratio_to(&self.ours)
    }

    /// The same for the reader: a share, or a fraction where the limit is another kind of work than ours.
    pub(crate) fn of_limit(&self) -> String {
        match self.work {
            Work::Maximum { .. } => format!("1/{:.2}", 1.0 / self.fraction()),
            _ => format!("{:.0} %", 100.0 * self.fraction()),
        }
    }

    /// One line for each bar: reached or missed, by how much.
    pub(crate) fn judged(&self, bars: Bars) -> Vec<Judged> {
        let mut judged = Vec::new();
        if let Some(bar) = bars.of_limit {
            let fraction = self.fraction();
            judged.push(Judged {
                reached: fraction >= bar,
                line: match self.work {
                    Work::Maximum { .. } => format!(
                        "{} {}: {:.2} times the limit, asked are at most {:.2}",
                        self.package,
                        self.case,
                        1.0 / fraction,
                        1.0 / bar
                    ),
                    _ => format!(
                        "{} {}: {:.0} % of the limit, asked are {:.0} %",
                        self.package,
                        self.case,
                        100.0 * fraction,
                        100.0 * bar
                    ),
                },
            });
        }
        for (library, bar) in bars.peers {
            let Some(peer) = self.peers.iter().find(|peer| peer.library == *library) else {
                continue; // not asked for in this run
            };
            let ratio = peer.time.ratio_to(&self.ours);
            judged.push(Judged {
                reached: ratio >= *bar,
                line: format!(
                    "{} {}: {library} takes {ratio:.1} times as long, asked are {bar:.1}",
                    self.package, self.case
                ),
            });
        }
        judged
    }

    fn json(&self) -> Value {
        let peers: Vec<Value> = self
            .peers
            .iter()
            .map(|peer| {
                json!({
                    "library": peer.library,
                    "version": peer.version,
                    "seconds": peer.time.0,
                    "median": peer.time.median(),
                    "ratio": peer.time.ratio_to(&self.ours),
                })
            })
            .collect();
        let (unit, kind) = match self.work {
            Work::Copy { .. } => ("bytes", "copy"),
            Work::Read { .. } => ("bytes", "read"),
            Work::Product { .. } => ("operations", "product"),
            Work::Maximum { .. } => ("values", "maximum"),
        };
        json!({
            "crate": self.package,
            "case": self.case,
            "limited_by": kind,
            unit: self.work.amount(),
            "seconds": self.ours.0,
            "median": self.ours.median(),
            "spread": self.ours.spread(),
            "limit": self.limit.median(),
            "fraction": self.fraction(),
            "peers": peers,
        })
    }
}

/// All rows as JSON.
pub(crate) fn json(rows: &[Row]) -> Vec<Value> {
    rows.iter().map(Row::json).collect()
}

/// All rows as a Markdown table with aligned columns; two columns for each library that has any case.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let libraries: BTreeMap<&str, &str> = rows
        .iter()
        .flat_map(|row| &row.peers)
        .map(|peer| (&*peer.library, &*peer.version))
        .collect();
    let mut head = ["case", "work", "ours", "limit", "of limit"]
        .map(str::to_owned)
        .to_vec();
    for (library, version) in &libraries {
        head.extend([format!("{library} {version}"), "/ ours".to_owned()]);
    }
    let mut lines = vec![head];
    for row in rows {
        let mut line = vec![
            format!("{} {}", row.package, row.case),
            work(row.work),
            format!(
                "{} ± {:.0} %",
                time(row.ours.median()),
                100.0 * row.ours.spread()
            ),
            time(row.limit.median()),
            row.of_limit(),
        ];
        for library in libraries.keys() {
            match row.peers.iter().find(|peer| peer.library == *library) {
                Some(peer) => line.extend([
                    time(peer.time.median()),
                    format!("{:.1}", peer.time.ratio_to(&row.ours)),
                ]),
                None => line.extend(["–".to_owned(), "–".to_owned()]),
            }
        }
        lines.push(line);
    }
    aligned(&lines)
}

/// The peaks of memory as a table like that of the times.
pub(crate) fn memory(calls: &[Peaks]) -> String {
    let mut lines = vec![vec![
        "peak of memory".to_owned(),
        "tokens".to_owned(),
        "held".to_owned(),
        "for a token".to_owned(),
    ]];
    for call in calls {
        for &(length, bytes) in &call.peaks {
            lines.push(vec![
                format!("{} {}", call.package, call.name),
                length.to_string(),
                scaled(bytes as f64, "B"),
                scaled(bytes as f64 / length as f64, "B"),
            ]);
        }
    }
    aligned(&lines)
}

/// The first column to the left, figures to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            text += &match column {
                0 => format!("| {cell}{padding} "),
                _ => format!("| {padding}{cell} "),
            };
        }
        text += "|\n";
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column == 0 { "-" } else { ":" };
                text += &format!("|{}{end}", "-".repeat(width + 1));
            }
            text += "|\n";
        }
    }
    text
}

fn work(work: Work) -> String {
    match work {
        Work::Copy { bytes } => format!("{} moved", scaled(bytes as f64, "B")),
        Work::Read { bytes } => format!("{} read", scaled(bytes as f64, "B")),
        Work::Product { operations } => scaled(operations as f64, "FLOP"),
        Work::Maximum { values } => format!("largest of {values}"),
    }
}

/// `12.3 GB`: with the prefix that leaves one to three digits.
pub(crate) fn scaled(value: f64, unit: &str) -> String {
    let prefixes = ["", "k", "M", "G", "T"];
    let mut value = value;
    let mut at = 0;
    while value >= 999.5 && at + 1 < prefixes.len() {
        value /= 1000.0;
        at += 1;
    }
    let digits = usize::from(value < 99.95 && at > 0);
    format!("{value:.digits$} {}{unit}", prefixes[at])
}

/// `12.3 ms`
pub(crate) fn time(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")];
    let (unit, name) = units
        .into_iter()
        .find(|(unit, _)| seconds >= *unit)
        .unwrap_or((1e-9, "ns"));
    let value = seconds / unit;
    let digits = if value < 9.995 {
        2
    } else {
        usize::from(value < 99.95)
    };
    format!("{value:.digits$} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: &str, peers: Vec<PeerTime>) -> Row {
        Row {
            package: "posenc".to_owned(),
            case: case.to_owned(),
            work: Work::Copy { bytes: 84_000_000 },
            ours: Samples(vec![0.010; 3]),
            limit: Samples(vec![0.008; 3]),
            peers,
        }
    }

    fn peer(library: &str, seconds: f64) -> PeerTime {
        PeerTime {
            library: library.to_owned(),
            version: "1.0".to_owned(),
            time: Samples(vec![seconds; 3]),
        }
    }

    #[test]
    fn the_ratio_is_above_one_when_we_are_faster() {
        let rows = [
            row("a", vec![peer("torch", 0.05)]),
            row("longer", Vec::new()),
        ];
        let got = markdown(&rows);
        let widths: Vec<usize> = got.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{got}");
        let line = got.lines().nth(2).unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(
            cells,
            [
                "",
                "posenc a",
                "84.0 MB moved",
                "10.0 ms ± 0 %",
                "8.00 ms",
                "80 %",
                "50.0 ms",
                "5.0",
                ""
            ]
        );
        assert!(got.lines().nth(3).unwrap().contains("–"), "{got}");
    }

    #[test]
    fn bars_are_reached_or_missed() {
        let row = row("a", vec![peer("torch", 0.05)]); // 80 % of the limit, 5 times
        let judged = |of_limit, peers| {
            let judged = row.judged(Bars { of_limit, peers });
            judged
                .iter()
                .map(|judged| judged.reached)
                .collect::<Vec<_>>()
        };
        assert_eq!(judged(Some(0.7), &[("torch", 4.9)]), [true, true]);
        assert_eq!(judged(Some(0.81), &[("torch", 5.1)]), [false, false]);
        assert_eq!(judged(Some(f64::NAN), &[]), [false]);
        assert_eq!(judged(None, &[("candle", 2.0)]), [true; 0]);
    }

    #[test]
    fn a_maximum_is_a_fraction_of_the_limit() {
        let row = Row {
            work: Work::Maximum { values: 10 },
            ours: Samples(vec![0.036; 3]),
            ..row("a", Vec::new())
        };
        assert_eq!(row.of_limit(), "1/4.50");
        let judged = |of_limit| {
            let of_limit = Some(of_limit);
            row.judged(Bars {
                of_limit,
                peers: &[],
            })
        };
        assert!(judged(1.0 / 5.0)[0].reached);
        assert!(!judged(1.0 / 4.0)[0].reached);
        let line = "posenc a: 4.50 times the limit, asked are at most 4.00";
        assert_eq!(judged(1.0 / 4.0)[0].line, line);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(time(1.5), "1.50 s");
        assert_eq!(time(0.0123), "12.3 ms");
        assert_eq!(time(456e-6), "456 µs");
        assert_eq!(time(0.0), "0.00 ns");
        assert_eq!(scaled(999.0, "B"), "999 B");
        assert_eq!(scaled(12_345.0, "B"), "12.3 kB");
        assert_eq!(scaled(84e6, "B"), "84.0 MB");
        assert_eq!(scaled(123e9, "FLOP"), "123 GFLOP");
    }

    #[test]
    fn the_json_has_every_sample() {
        let rows = [row("a", vec![peer("torch", 0.05)])];
        let json = &json(&rows)[0];
        assert_eq!(json["seconds"].as_array().unwrap().len(), 3);
        assert_eq!(json["bytes"], 84e6);
        assert!((json["peers"][0]["ratio"].as_f64().unwrap() - 5.0).abs() < 1e-9);
    }
}
