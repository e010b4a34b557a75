//! How many operations a decode step has for each byte that it moves, by the number of sequences that share the weights.

use llm_kvcache::calculator::{ModelSizes, decode_work};

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

/// The largest batch.
const LARGEST: usize = 256;
/// Tokens in the cache of each sequence, whether key-value heads are shared, how the line is broken, and its name.
const CURVES: [(usize, bool, &str, &str); 4] = [
    (128, false, "", "7B, 128 cached"),
    (2048, true, "9 3", "8B, 2048 cached"),
    (512, false, "4 3", "7B, 512 cached"),
    (2048, false, "1 3", "7B, 2048 cached"),
];
/// Operations for each byte of an A100 of 80 GB: 312 TFLOP/s in dense 16-bit products, 2.039 TB/s.
const MACHINE: f64 = 312.0 / 2.039;

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "decode-intensity",
    title: "Operations for each byte of a decode step",
    alt: "Four curves over the batch, from 1 to 256 sequences: operations for each byte that a decode step moves, in 16 bits. All begin at 1. \
          LLaMA-2 7B has 111 for 256 sequences with 128 cached tokens, 42 with 512 and 13 with 2048. Llama 3 8B, whose query heads share keys and \
          values by fours, has 49 with 2048. All stay below the line at 153, which is what an A100 can do for each byte.",
    draw: decode_intensity,
};

/// Operations for each byte of a decode step, over the batch, beside those of a machine.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn decode_intensity() -> Result<Figure, PlotError> {
    let place = Place {
        x: 64.0,
        y: 16.0,
        width: 500.0,
        height: 340.0,
    };
    let across = Scale::new((0.0, LARGEST as f64), (place.x, place.right()));
    let up = Scale::new((0.0, 160.0), (place.bottom(), place.y));
    let x_ticks = [0.0, 64.0, 128.0, 192.0, 256.0];
    let y_ticks = [0.0, 40.0, 80.0, 120.0, 160.0];
    let mut canvas = Canvas::default();
    axes::grid(&mut canvas, place, (across, up), (&x_ticks, &y_ticks));
    axes::outline(&mut canvas, place);
    let label = "batch (sequences)";
    axes::below(&mut canvas, place, across, &x_ticks, label);
    let label = "operations a byte";
    axes::left(&mut canvas, place, up, &y_ticks, label, 46.0);
    canvas.line(
        (place.x, up.at(MACHINE)),
        (place.right(), up.at(MACHINE)),
        "stroke=\"currentColor\" stroke-width=\"2\" data-machine=\"A100\"",
    );
    let at = (place.right() + 8.0, up.at(MACHINE) + axes::HALF_TEXT);
    canvas.text(at, Anchor::Start, "A100", "");
    for ((past, is_shared, dashes, name), color) in CURVES.into_iter().zip(SERIES) {
        let model = if is_shared {
            ModelSizes::llama_3_8b()
        } else {
            ModelSizes::llama_2_7b()
        };
        let mut points = Vec::with_capacity(LARGEST);
        for batch in 1..=LARGEST {
            let intensity = decode_work(&model, batch, past, 2)?.intensity();
            let intensity = finite(intensity, "an intensity")?;
            points.push((across.at(batch as f64), up.at(intensity)));
        }
        let style = format!("stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        canvas.polyline(&points, &style);
        if let Some(&(x, y)) = points.last() {
            // Two curves end close to each other.
            let lift = if is_shared { -6.0 } else { 4.0 };
            let at = (x + 8.0, y + axes::HALF_TEXT + lift);
            canvas.text(at, Anchor::Start, name, &format!("fill=\"{color}\""));
        }
    }
    Ok(Figure::new(&ENTRY, 700, 410, canvas))
}
