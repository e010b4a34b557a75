//! One row at three temperatures, and which of its tokens three filters keep.

use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::{Context, Dialect};

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

/// Logits, the largest first: then each filter keeps the tokens up to some place.
const ROW: [f64; 10] = [3.0, 2.2, 1.8, 1.5, 1.0, 0.6, 0.2, -0.2, -0.8, -1.5];
const TEMPERATURES: [f64; 3] = [0.5, 1.0, 2.0];
/// Name, setting, and dashes of its line.
const FILTERS: [(&str, Setting, &str); 3] = [
    ("top-k 4", Setting::TopK(4), ""),
    ("top-p 0.8", Setting::TopP(0.8), "9 3"),
    ("min-p 0.1", Setting::MinP(0.1), "4 3"),
];

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "temperature-filters",
    title: "One row at three temperatures, and what filters keep",
    alt: "Three panels with the probabilities of the same ten tokens at the temperatures 0.5, 1 and 2. At 0.5 the first token has 0.73, at 1 it has 0.43, \
          at 2 only 0.25. Lines below say which tokens stay: top-k 4 keeps four in each panel; top-p 0.8 keeps 2, 4 and 6, and min-p 0.1 keeps 2, \
          5 and all 10. A fixed number does not follow the distribution, the other two do.",
    draw: temperature_filters,
};

/// Probabilities of ten tokens at temperatures of 0.5, 1 and 2, and what top-k, top-p and min-p keep of them.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn temperature_filters() -> Result<Figure, PlotError> {
    let mut canvas = Canvas::default();
    let n = ROW.len() as f64;
    let first = Place {
        x: 96.0,
        y: 34.0,
        width: 204.0,
        height: 200.0,
    };
    let up = Scale::new((0.0, 0.8), (first.bottom(), first.y));
    let y_ticks = [0.0, 0.2, 0.4, 0.6, 0.8];
    for (panel, temperature) in TEMPERATURES.into_iter().enumerate() {
        let place = Place {
            x: first.x + 226.0 * panel as f64,
            ..first
        };
        let across = Scale::new((0.5, n + 0.5), (place.x, place.right()));
        axes::grid(&mut canvas, place, (across, up), (&[], &y_ticks));
        axes::outline(&mut canvas, place);
        let x_ticks: Vec<f64> = (1..=ROW.len()).map(|rank| rank as f64).collect();
        axes::below(&mut canvas, place, across, &x_ticks, "token (rank)");
        if panel == 0 {
            axes::left(&mut canvas, place, up, &y_ticks, "probability", 44.0);
        }
        let title = format!("T = {}", axes::signed(temperature));
        canvas.text((place.x, place.y - 10.0), Anchor::Start, &title, "");
        bars(&mut canvas, (across, up), temperature)?;
        for (index, ((name, setting, dashes), color)) in FILTERS.into_iter().zip(SERIES).enumerate()
        {
            let y = place.bottom() + 66.0 + 22.0 * index as f64;
            if panel == 0 {
                let at = (place.x - 12.0, y + axes::HALF_TEXT);
                canvas.text(at, Anchor::End, name, &format!("fill=\"{color}\""));
            }
            let kept = left(&[Setting::Temperature(temperature), setting])?.len();
            let (from, to) = (across.at(0.6), across.at(kept as f64 + 0.4));
            let style = format!(
                "stroke=\"{color}\" stroke-width=\"4\" stroke-dasharray=\"{dashes}\" data-kept=\"{kept}\""
            );
            canvas.line((from, y), (to, y), &style);
            let at = (to + 5.0, y + 4.0);
            let style = format!("font-size=\"12\" fill=\"{color}\"");
            canvas.text(at, Anchor::Start, &kept.to_string(), &style);
        }
    }
    Ok(Figure::new(&ENTRY, 776, 362, canvas))
}

/// The probabilities as bars with a common foot.
fn bars(canvas: &mut Canvas, (across, up): (Scale, Scale), t: f64) -> Result<(), PlotError> {
    let probabilities = left(&[Setting::Temperature(t)])?;
    let style = format!("fill=\"currentColor\" fill-opacity=\"0.55\" data-temperature=\"{t}\"");
    let (foot, width) = (up.at(0.0), 0.7 * (across.at(2.0) - across.at(1.0)));
    canvas.group(&style, |canvas| {
        for (index, p) in probabilities.into_iter().enumerate() {
            let (x, y) = (across.at(index as f64 + 1.0) - width / 2.0, up.at(p));
            canvas.rect((x, y), (width, foot - y), "");
        }
    });
    Ok(())
}

/// Probabilities of the tokens that a chain leaves.
fn left(settings: &[Setting]) -> Result<Vec<f64>, PlotError> {
    let config = ChainConfig::new(Dialect::HuggingFace);
    let config = settings.iter().cloned().fold(config, ChainConfig::with);
    let mut chain = config.build()?;
    let candidates = chain.run(&ROW, &Context::new(&[], &[]))?;
    candidates.compact();
    let (max, total) = candidates.weigh()?;
    let logits = candidates.logits().iter();
    logits
        .map(|x| finite((x - max).exp() / total, "a probability"))
        .collect()
}
