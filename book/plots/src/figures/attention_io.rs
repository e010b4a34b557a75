//! What attention moves between slow and fast memory: the standard form and both generations of `FlashAttention`.

use llm_attention::io_count::{IoCount, Sizes, Tiles};

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

/// The longest text, and the distance of points; each is a multiple of the tiles.
const LONGEST: usize = 16384;
const STEP: usize = 512;
const HEAD_DIM: usize = 64;
/// Numbers that fit into fast memory.
const MEMORY: usize = 1 << 16;
/// How each line is broken, and its name.
const CURVES: [(&str, &str); 3] = [
    ("", "standard"),
    ("9 3", "FlashAttention-1"),
    ("4 3", "FlashAttention-2"),
];

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "attention-io",
    title: "Elements that attention moves",
    alt: "Three curves over the length of a text, from 512 to 16384 tokens: the elements that one head of 64 features moves between slow memory and a \
          fast memory of 65536 elements. All grow with the square of the length. The standard form moves most: 1078 million for \
          16384 tokens. FlashAttention-1 moves 209 million, a fifth of that, and FlashAttention-2 moves 136 million, an eighth.",
    draw: attention_io,
};

/// Millions of elements that one head moves, over the number of tokens.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn attention_io() -> Result<Figure, PlotError> {
    let place = Place {
        x: 74.0,
        y: 16.0,
        width: 520.0,
        height: 340.0,
    };
    let across = Scale::new((0.0, LONGEST as f64), (place.x, place.right()));
    let up = Scale::new((0.0, 1100.0), (place.bottom(), place.y));
    let x_ticks = [0.0, 4096.0, 8192.0, 12288.0, 16384.0];
    let y_ticks = [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0];
    let mut canvas = Canvas::default();
    axes::grid(&mut canvas, place, (across, up), (&x_ticks, &y_ticks));
    axes::outline(&mut canvas, place);
    let label = "length of the text (tokens)";
    axes::below(&mut canvas, place, across, &x_ticks, label);
    let label = "elements moved (millions)";
    axes::left(&mut canvas, place, up, &y_ticks, label, 54.0);
    for (curve, ((dashes, name), color)) in CURVES.into_iter().zip(SERIES).enumerate() {
        let mut points = Vec::with_capacity(LONGEST / STEP);
        for seq in (STEP..=LONGEST).step_by(STEP) {
            let millions = finite(moved(seq)[curve] as f64 / 1e6, "a count")?;
            points.push((across.at(seq as f64), up.at(millions)));
        }
        let style = format!("stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        canvas.polyline(&points, &style);
        if let Some(&(x, y)) = points.last() {
            let at = (x + 8.0, y + axes::HALF_TEXT);
            canvas.text(at, Anchor::Start, name, &format!("fill=\"{color}\""));
        }
    }
    Ok(Figure::new(&ENTRY, 740, 410, canvas))
}

/// What each curve has at this length.
fn moved(seq: usize) -> [usize; 3] {
    let sizes = Sizes {
        seq,
        kv_seq: seq,
        head_dim: HEAD_DIM,
        value_dim: HEAD_DIM,
    };
    [
        IoCount::of_standard(sizes),
        IoCount::of_flash1(sizes, Tiles::for_flash1(MEMORY, HEAD_DIM)),
        IoCount::of_flash2(sizes, Tiles::for_flash2(MEMORY, HEAD_DIM)),
    ]
    .map(|io| io.total())
}
