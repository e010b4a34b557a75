//! Draws by three methods beside the probabilities that they have to follow.

use llm_sampling::{RowRandom, SamplingError, categorical, exponential_race, gumbel_max};
use ndarray::Array1;

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

const PROBABILITIES: [f64; 6] = [0.35, 0.25, 0.18, 0.12, 0.07, 0.03];
const DRAWS: u64 = 10_000;
const NAMES: [&str; 3] = ["inverse CDF", "Gumbel-max", "exponential race"];

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "draw-histogram",
    title: "10 000 draws by each of three methods",
    alt: "For each of six tokens three bars: its share of 10 000 draws by the inverse of the cumulative distribution, by Gumbel-max and by an exponential \
          race, each with random numbers of its own. A line marks the token's probability, from 0.35 down to 0.03. All bars end within 0.01 of it: \
          the three methods draw from one distribution.",
    draw: draw_histogram,
};

/// Shares of six tokens among 10 000 draws by three methods, and their probabilities.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn draw_histogram() -> Result<Figure, PlotError> {
    let place = Place {
        x: 62.0,
        y: 16.0,
        width: 600.0,
        height: 280.0,
    };
    let n = PROBABILITIES.len() as f64;
    let across = Scale::new((-0.5, n - 0.5), (place.x, place.right()));
    let up = Scale::new((0.0, 0.4), (place.bottom(), place.y));
    let x_ticks: Vec<f64> = (0..PROBABILITIES.len()).map(|id| id as f64).collect();
    let y_ticks = [0.0, 0.1, 0.2, 0.3, 0.4];
    let mut canvas = Canvas::default();
    axes::grid(&mut canvas, place, (across, up), (&[], &y_ticks));
    axes::outline(&mut canvas, place);
    axes::below(&mut canvas, place, across, &x_ticks, "token (id)");
    axes::left(&mut canvas, place, up, &y_ticks, "share of the draws", 44.0);

    let width = 0.24 * (across.at(1.0) - across.at(0.0));
    for (method, color) in SERIES.into_iter().take(NAMES.len()).enumerate() {
        let shares = shares(method)?;
        let style = format!("fill=\"{color}\" data-method=\"{method}\"");
        canvas.group(&style, |canvas| {
            for (id, share) in shares.into_iter().enumerate() {
                let x = across.at(id as f64) + (method as f64 - 1.5) * width;
                let y = up.at(share);
                canvas.rect((x, y), (width - 2.0, up.at(0.0) - y), "");
            }
        });
        // The legend, in the corner that has no bars.
        let (x, y) = (place.x + 420.0, place.y + 22.0 + 24.0 * method as f64);
        canvas.rect((x, y), (14.0, 14.0), &format!("fill=\"{color}\""));
        canvas.text((x + 22.0, y + 12.0), Anchor::Start, NAMES[method], "");
    }
    let style = "stroke=\"currentColor\" stroke-width=\"2\"";
    canvas.group(&format!("{style} data-exact=\"true\""), |canvas| {
        for (id, p) in PROBABILITIES.into_iter().enumerate() {
            let (x, y) = (across.at(id as f64), up.at(p));
            canvas.line((x - 1.8 * width, y), (x + 1.8 * width, y), "");
        }
    });
    let (x, y) = (place.x + 420.0, place.y + 22.0 + 24.0 * 3.0 + 7.0);
    canvas.line((x, y), (x + 14.0, y), style);
    canvas.text((x + 22.0, y + 5.0), Anchor::Start, "probability", "");
    Ok(Figure::new(&ENTRY, 682, 350, canvas))
}

/// How often each token comes, as a share.
fn shares(method: usize) -> Result<[f64; 6], PlotError> {
    let row = Array1::from(PROBABILITIES.map(f64::ln).to_vec());
    let draw = |random: RowRandom| -> Result<u32, SamplingError> {
        let draw = match method {
            0 => categorical::draw(&row, random.uniform(0)),
            1 => gumbel_max::draw(&row, random),
            _ => exponential_race::draw(&row, random),
        };
        Ok(draw?.token)
    };
    let mut counts = [0.0; 6];
    for step in 0..DRAWS {
        // A seed for each method: with the same numbers, the last two would draw the same tokens.
        counts[draw(RowRandom::new(method as u64, 0, step))? as usize] += 1.0;
    }
    for count in &mut counts {
        *count = finite(*count / DRAWS as f64, "a share")?;
    }
    Ok(counts)
}
