//! How many tokens a pass of the target model makes, by how often a drafted token is accepted.

use llm_sampling::RowRandom;
use llm_sampling::search::speculative::{RowMode, verify};
use ndarray::{Array2, Array3};

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

/// Drafted tokens, and how the line is broken.
const CURVES: [(usize, &str); 4] = [(8, ""), (4, "9 3"), (2, "4 3"), (1, "1 3")];
/// In hundredths: how often a token is accepted where passes are measured.
const MEASURED: [u32; 5] = [10, 30, 50, 70, 90];
const PASSES: usize = 2000;

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "speculative-length",
    title: "Tokens a pass of speculative decoding",
    alt: "Four curves over the share of drafted tokens that are accepted, from 0 to 1: the tokens that one pass of the target makes on average with drafts of 1, \
          2, 4 and 8 tokens. All begin at 1 and end at one more than the draft has. At 0.7 they are 1.7, 2.2, 2.8 and 3.2: longer drafts pay only \
          where most tokens are accepted. Dots are means of 2000 passes of the verifying function and lie on the curves.",
    draw: speculative_length,
};

/// Expected tokens a pass over the acceptance rate, for four lengths of drafts, with measured means.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn speculative_length() -> Result<Figure, PlotError> {
    let place = Place {
        x: 58.0,
        y: 16.0,
        width: 520.0,
        height: 340.0,
    };
    let across = Scale::new((0.0, 1.0), (place.x, place.right()));
    let up = Scale::new((0.0, 9.0), (place.bottom(), place.y));
    let x_ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    let y_ticks = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let mut canvas = Canvas::default();
    axes::grid(&mut canvas, place, (across, up), (&x_ticks, &y_ticks));
    axes::outline(&mut canvas, place);
    let label = "acceptance rate α";
    axes::below(&mut canvas, place, across, &x_ticks, label);
    axes::left(&mut canvas, place, up, &y_ticks, "tokens a pass", 36.0);
    for ((drafted, dashes), color) in CURVES.into_iter().zip(SERIES) {
        let points: Vec<(f64, f64)> = (0..=100)
            .map(|hundredths| {
                let alpha = f64::from(hundredths) / 100.0;
                (across.at(alpha), up.at(expected(alpha, drafted)))
            })
            .collect();
        let style = format!(
            "stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\" data-drafted=\"{drafted}\""
        );
        canvas.polyline(&points, &style);
        let at = (
            place.right() + 8.0,
            up.at(drafted as f64 + 1.0) + axes::HALF_TEXT,
        );
        let name = format!("γ = {drafted}");
        canvas.text(at, Anchor::Start, &name, &format!("fill=\"{color}\""));
        let mut dots = Vec::with_capacity(MEASURED.len());
        for hundredths in MEASURED {
            let alpha = f64::from(hundredths) / 100.0;
            dots.push((across.at(alpha), up.at(measured(alpha, drafted)?)));
        }
        let style = format!("fill=\"{color}\" data-passes=\"{drafted}\"");
        canvas.group(&style, |canvas| {
            for dot in dots {
                canvas.circle(dot, 4.0, "");
            }
        });
    }
    Ok(Figure::new(&ENTRY, 650, 410, canvas))
}

/// The formula of the paper.
fn expected(alpha: f64, drafted: usize) -> f64 {
    if alpha == 1.0 {
        return drafted as f64 + 1.0;
    }
    (1.0 - alpha.powi(drafted as i32 + 1)) / (1.0 - alpha)
}

/// The mean of tokens that a pass makes, where a draft is certain of a token that the target has with probability `alpha`.
fn measured(alpha: f64, drafted: usize) -> Result<f64, PlotError> {
    let row = [alpha.ln(), (1.0 - alpha).ln()];
    let target = Array3::from_shape_fn([PASSES, drafted + 1, 2], |(_, _, token)| row[token]);
    let draft = Array2::zeros([PASSES, drafted]);
    let modes: Vec<RowMode<'_>> = (0..PASSES as u64)
        .map(|stream| RowMode::Sample(RowRandom::new(1, stream, 0)))
        .collect();
    let verified = verify(&target, None, &draft, &[drafted; PASSES], &modes)?;
    let tokens: usize = verified.iter().map(|pass| pass.tokens.len()).sum();
    finite(tokens as f64 / PASSES as f64, "a mean")
}
