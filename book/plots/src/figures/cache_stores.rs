//! Which tokens of a sequence four stores hold.

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, KvCacheError, SinkCache};
use ndarray::Array3;

use crate::axes;
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::PlotError;
use crate::figure::{Figure, FigureEntry};

/// Tokens that came.
const TOKENS: usize = 24;
const WINDOW: usize = 8;
const SINKS: usize = 4;
/// Tokens that share a step, and that stay as they are, in the KIVI cache.
const GROUP: usize = 8;

const CELL: f64 = 20.0;
const ROW: f64 = 40.0;
const FIRST: (f64, f64) = (150.0, 20.0);

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "cache-stores",
    title: "Which tokens the stores hold",
    alt: "Four rows of 24 cells, a cell for each token of a sequence. The contiguous cache holds all of them. The ring with a window of 8 holds the last \
          8. Sinks and a window hold the first 4 and the last 8. KIVI holds all of them, the first 16 in few bits, drawn as frames, and the newest 8 \
          as they are. Only two of the four rows grow with the sequence.",
    draw: cache_stores,
};

/// What of a token is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Not,
    Quantized,
    Whole,
}

/// The tokens that a contiguous cache, a ring, sinks with a window and a KIVI cache hold of the same sequence.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn cache_stores() -> Result<Figure, PlotError> {
    let mut canvas = Canvas::default();
    for (row, (name, held)) in rows()?.into_iter().enumerate() {
        let y = FIRST.1 + ROW * row as f64;
        let at = (FIRST.0 - 12.0, y + CELL / 2.0 + axes::HALF_TEXT);
        canvas.text(at, Anchor::End, name, "");
        canvas.group(&format!("data-store=\"{name}\""), |canvas| {
            for (t, held) in held.into_iter().enumerate() {
                cell(canvas, (FIRST.0 + CELL * t as f64, y), held, SERIES[row]);
            }
        });
    }
    let y = FIRST.1 + 4.0 * ROW + 8.0;
    canvas.group("text-anchor=\"middle\"", |canvas| {
        for t in (0..TOKENS).step_by(4).chain([TOKENS - 1]) {
            let at = (FIRST.0 + CELL * (t as f64 + 0.5), y);
            canvas.text(at, Anchor::Start, &t.to_string(), "");
        }
    });
    let middle = FIRST.0 + CELL * TOKENS as f64 / 2.0;
    canvas.text(
        (middle, y + 21.0),
        Anchor::Middle,
        "position of the token",
        "",
    );
    Ok(Figure::new(&ENTRY, 660, 222, canvas))
}

fn cell(canvas: &mut Canvas, (x, y): (f64, f64), held: Held, color: &str) {
    let (fill, stroke, opacity) = match held {
        Held::Not => ("none", "currentColor", 0.25),
        Held::Quantized => ("none", color, 1.0),
        Held::Whole => (color, color, 1.0),
    };
    let style = format!(
        "fill=\"{fill}\" stroke=\"{stroke}\" stroke-opacity=\"{opacity}\" stroke-width=\"2\" data-held=\"{held:?}\""
    );
    canvas.rect((x + 2.0, y + 2.0), (CELL - 4.0, CELL - 4.0), &style);
}

/// Each store, and what it holds of each token.
fn rows() -> Result<[(&'static str, Vec<Held>); 4], KvCacheError> {
    // The value of token t is t, so that a store says itself which tokens it holds.
    let x = Array3::from_shape_fn([1, TOKENS, 1], |(_, t, _)| t as f32);
    let mut whole = ContiguousCache::new(1, 1, TOKENS, 1, 1)?;
    let window = RingConfig::new(1, 1, WINDOW, 1);
    let mut ring = RingCache::new(&window)?;
    let mut sinks = SinkCache::new(SINKS, &window)?;
    let mut kivi = KiviCache::new(1, 1, 1, 1, &KiviConfig::new(2, GROUP, GROUP))?;
    whole.append(0, &x, &x)?;
    ring.append(0, &x, &x)?;
    sinks.append(0, &x, &x)?;
    kivi.append(0, &x, &x)?;
    let of = |values: &[f32]| {
        let held = |t| {
            if values.contains(&(t as f32)) {
                Held::Whole
            } else {
                Held::Not
            }
        };
        (0..TOKENS).map(held).collect::<Vec<_>>()
    };
    let of_array = |values: Array3<f32>| of(&values.into_iter().collect::<Vec<_>>());
    let quantized = kivi.quantized_values(0)?;
    let of_kivi = |t| {
        if t < quantized {
            Held::Quantized
        } else if kivi.len(0).is_ok_and(|len| t < len) {
            Held::Whole
        } else {
            Held::Not
        }
    };
    Ok([
        ("contiguous", of_array(whole.values(0)?.to_owned())),
        ("ring", of_array(ring.ordered_values(0)?)),
        ("sinks and window", of_array(sinks.values(0)?)),
        ("KIVI (values)", (0..TOKENS).map(of_kivi).collect()),
    ])
}
