//! A beam search as a tree: what was looked at, what went on, what ended.

use llm_sampling::generate::StopReason;
use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use llm_sampling::{Candidates, Context, SamplingError};
use ndarray::Array2;

use crate::axes;
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

const WORDS: [&str; 8] = ["the", "cat", "sat", "on", "mat", "and", "slept", "."];
const STOP: u32 = 7;
/// Probabilities of the next word, in percent, by the last one: the model of the book's chapter.
const TABLE: [[f64; 8]; 8] = [
    [0.0, 70.0, 0.0, 0.0, 28.0, 0.0, 0.0, 2.0],
    [0.0, 0.0, 75.0, 1.0, 0.0, 8.0, 15.0, 1.0],
    [0.0, 0.0, 0.0, 90.0, 0.0, 5.0, 0.0, 5.0],
    [97.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0],
    [0.0, 0.0, 1.0, 0.0, 0.0, 49.0, 0.0, 50.0],
    [45.0, 0.0, 15.0, 0.0, 0.0, 0.0, 39.0, 1.0],
    [0.0, 0.0, 0.0, 25.0, 0.0, 15.0, 0.0, 60.0],
    [12.5; 8],
];
const BEAMS: usize = 2;
const STEPS: usize = 4;

const BOX: (f64, f64) = (112.0, 44.0);
const PITCH: (f64, f64) = (164.0, 66.0);
const FIRST: (f64, f64) = (16.0, 52.0);

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "beam-tree",
    title: "Beam search with two beams as a tree",
    alt: "A tree from left to right: after the word the, four steps of a search with two beams. Each step shows the best continuations of both beams \
          with their probability, and below it the sum of logarithms. Two of them go on, in blue; the others are dropped, in gray. The sentence \
          that ends with mat and a stop has -1.97 after the second step and waits as a hypothesis, in orange. The best one in the end is \
          cat sat on the, with -0.78. In the third step both beams come from different words of the first.",
    draw: beam_tree,
};

/// Four steps of a search with two beams: candidates, beams and hypotheses.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn beam_tree() -> Result<Figure, PlotError> {
    let (columns, best) = columns()?;
    let mut canvas = Canvas::default();
    let place = |column: usize, index: usize| {
        let x = FIRST.0 + PITCH.0 * column as f64;
        // The first word stands in the middle of those that follow.
        let row = if column == 0 { 1.0 } else { index as f64 };
        (x, FIRST.1 + PITCH.1 * row)
    };
    for (column, nodes) in columns.iter().enumerate().skip(1) {
        for (index, node) in nodes.iter().enumerate() {
            let parent = &node.tokens[..node.tokens.len() - 1];
            let from = columns[column - 1].iter().position(|n| n.tokens == parent);
            let (x, y) = place(column - 1, from.unwrap_or(0));
            let to = place(column, index);
            let (style, _) = node.style(&best);
            canvas.line(
                (x + BOX.0, y + BOX.1 / 2.0),
                (to.0, to.1 + BOX.1 / 2.0),
                &style,
            );
        }
    }
    for (column, nodes) in columns.iter().enumerate() {
        for (index, node) in nodes.iter().enumerate() {
            let (x, y) = place(column, index);
            let (style, ink) = node.style(&best);
            let class = node.fate.name();
            canvas.rect(
                (x, y),
                BOX,
                &format!("fill=\"none\" rx=\"6\" {style} data-fate=\"{class}\""),
            );
            let middle = x + BOX.0 / 2.0;
            let word = WORDS[node.tokens[node.tokens.len() - 1] as usize];
            if column == 0 {
                canvas.text((middle, y + 27.0), Anchor::Middle, word, "");
                continue;
            }
            let first = format!("{word}  {:.2}", node.probability);
            canvas.text((middle, y + 18.0), Anchor::Middle, &first, &ink);
            let sum = axes::signed(finite(node.sum, "a sum")?);
            let ink = format!("font-size=\"12\" {ink}");
            canvas.text((middle, y + 36.0), Anchor::Middle, &sum, ink.trim_end());
        }
        let title = match column {
            0 => "start".to_owned(),
            step => format!("step {step}"),
        };
        let x = FIRST.0 + PITCH.0 * column as f64 + BOX.0 / 2.0;
        canvas.text((x, 26.0), Anchor::Middle, &title, "fill-opacity=\"0.8\"");
    }
    Ok(Figure::new(&ENTRY, 804, 324, canvas))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    GoesOn,
    Ends,
    Dropped,
}

impl Fate {
    const fn name(self) -> &'static str {
        match self {
            Self::GoesOn => "beam",
            Self::Ends => "hypothesis",
            Self::Dropped => "dropped",
        }
    }
}

/// A sequence that the search looked at.
struct Node {
    tokens: Vec<u32>,
    /// Of its last token.
    probability: f64,
    sum: f64,
    fate: Fate,
}

impl Node {
    /// Attributes of its line and frame, and of its words.
    fn style(&self, best: &[u32]) -> (String, String) {
        let (color, opacity) = match self.fate {
            Fate::GoesOn => (SERIES[0], ""),
            Fate::Ends => (SERIES[1], ""),
            Fate::Dropped => (
                "currentColor",
                "stroke-opacity=\"0.4\" stroke-dasharray=\"4 3\"",
            ),
        };
        let width = if best.starts_with(&self.tokens) { 4 } else { 2 };
        let faint = match self.fate {
            Fate::Dropped => "fill-opacity=\"0.75\"",
            _ => "",
        };
        let style = format!("stroke=\"{color}\" stroke-width=\"{width}\" {opacity}");
        (style.trim_end().to_owned(), faint.to_owned())
    }
}

/// What each step looked at, the best first, and the best sequence in the end.
fn columns() -> Result<(Vec<Vec<Node>>, Vec<u32>), PlotError> {
    let config = BeamConfig::textbook(BEAMS, STEPS)
        .with_stop_ids(vec![STOP])
        .with_n_return(BEAMS);
    let whole = |tokens: &[u32]| [&[0], tokens].concat();
    let unchanged = |_: &mut Candidates<f64>, _: &Context<'_>| Ok::<(), SamplingError>(());
    let mut search = BeamSearch::new(&[[0]], &config)?;
    let mut columns = vec![vec![Node {
        tokens: vec![0],
        probability: 1.0,
        sum: 0.0,
        fate: Fate::GoesOn,
    }]];
    let beams = |search: &BeamSearch| -> Vec<Vec<u32>> {
        (0..BEAMS).filter_map(|row| search.sequence(row)).collect()
    };
    while !search.is_done() {
        let mut nodes = Vec::new();
        for tokens in beams(&search) {
            let last = tokens[tokens.len() - 1] as usize;
            let sum = |tokens: &[u32]| -> f64 {
                let pairs = tokens.windows(2);
                pairs.map(|p| share(p[0], p[1]).ln()).sum()
            };
            for next in 0..WORDS.len() as u32 {
                let tokens = [tokens.as_slice(), &[next]].concat();
                nodes.push(Node {
                    probability: share(last as u32, next),
                    sum: sum(&tokens),
                    tokens,
                    fate: Fate::Dropped,
                });
            }
        }
        nodes.retain(|node| node.probability > 0.0);
        nodes.sort_by(|a, b| b.sum.total_cmp(&a.sum));
        nodes.truncate(config.n_candidates(BEAMS));
        let last = search.tokens();
        let logits = Array2::from_shape_fn([BEAMS, WORDS.len()], |(row, v)| {
            share(last[row], v as u32).ln()
        });
        search.step(&logits, &unchanged)?;
        columns.push(nodes);
        let running = beams(&search);
        let hypotheses = search.clone().finish().into_iter().flatten();
        let ended = hypotheses.filter(|h| h.stop != StopReason::Callback);
        let ended: Vec<Vec<u32>> = ended.map(|h| whole(&h.tokens)).collect();
        for node in columns.iter_mut().flatten() {
            if running.contains(&node.tokens) {
                node.fate = Fate::GoesOn;
            } else if ended.contains(&node.tokens) {
                node.fate = Fate::Ends;
            }
        }
    }
    let found = search.finish();
    let hypotheses = found.iter().flatten();
    let best = hypotheses.map(|h| whole(&h.tokens)).next();
    Ok((columns, best.unwrap_or_default()))
}

/// The probability of a word after another.
fn share(last: u32, next: u32) -> f64 {
    TABLE[last as usize][next as usize] / 100.0
}
