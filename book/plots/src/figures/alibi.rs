//! The distance matrix of `ALiBi`, and what the slope of each head makes of it.

use llm_posenc::alibi::{self as method, AlibiOrigin};
use ndarray::{ArrayView2, Axis};

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::{ColorMap, hex, ink_on};
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};
use crate::heatmap;

const N_HEADS: usize = 8;
const SEQ: usize = 10;
/// The paper's exponent: slopes go down to `2^-8`.
const MAX_BIAS: f64 = 8.0;
/// As the article has it: 0 for later keys.
const ORIGIN: AlibiOrigin = AlibiOrigin::PastDistance;
const MAP: ColorMap = ColorMap::Brightness;
/// Colors of the distances, and of the biases of all heads.
const DISTANCES: (f64, f64) = (-9.0, 0.0);
const BIASES: (f64, f64) = (-4.5, 0.0);

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "alibi",
    title: "ALiBi: distances times the slopes of 8 heads",
    alt: "Left: a 10 by 10 matrix of minus the distance from a query to the keys before it: 0 on the diagonal, -1 below it, down to -9 in the \
          lower left corner. Right: the same matrix times the slope of each of 8 heads, 1/2, 1/4 and so on to 1/256, in one scale of \
          colors. The first head takes 4.5 off the score of the farthest key, the last one 0.035: the first heads look at near tokens, \
          the last ones at all of them.",
    draw: alibi,
};

/// The 10 by 10 distance matrix and the biases of 8 heads.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn alibi() -> Result<Figure, PlotError> {
    let mut canvas = Canvas::default();
    distances(&mut canvas)?;
    heads(&mut canvas)?;
    Ok(Figure::new(&ENTRY, 916, 372, canvas))
}

/// The matrix with its numbers.
fn distances(canvas: &mut Canvas) -> Result<(), PlotError> {
    let distances = method::distances(SEQ, SEQ, ORIGIN)?.mapv(|distance| distance as f64);
    let place = Place {
        x: 52.0,
        y: 40.0,
        width: 280.0,
        height: 280.0,
    };
    cells(canvas, place, &distances.view(), DISTANCES)?;
    let size = place.width / SEQ as f64;
    for ((query, key), &value) in distances.indexed_iter() {
        let at = (
            place.x + (key as f64 + 0.5) * size,
            place.y + (query as f64 + 0.5) * size + axes::HALF_TEXT,
        );
        // Later keys have 0 in the matrix, and are masked.
        let style = if key > query {
            "fill-opacity=\"0.5\"".to_owned()
        } else {
            format!("fill=\"{}\"", ink_on(MAP.color(share(value, DISTANCES))))
        };
        canvas.text(at, Anchor::Middle, &axes::signed(value), &style);
    }
    let ticks: Vec<f64> = (0..SEQ).map(|index| index as f64).collect();
    let from = (-0.5, SEQ as f64 - 0.5);
    let across = Scale::new(from, (place.x, place.right()));
    axes::below(canvas, place, across, &ticks, "key j (position)");
    let down = Scale::new(from, (place.y, place.bottom()));
    axes::left(canvas, place, down, &ticks, "query i (position)", 34.0);
    canvas.text((place.x, 22.0), Anchor::Start, "distance j − i", "");
    Ok(())
}

/// The matrix of each head, small.
fn heads(canvas: &mut Canvas) -> Result<(), PlotError> {
    let slopes = method::slopes(N_HEADS, MAX_BIAS)?.mapv(f64::from);
    let biases = method::bias(&slopes, SEQ, SEQ, ORIGIN)?;
    let first = Place {
        x: 378.0,
        y: 64.0,
        width: 100.0,
        height: 100.0,
    };
    let title = "bias m · (j − i) of 8 heads, and the lowest in numbers";
    canvas.text((first.x, 22.0), Anchor::Start, title, "");
    for (head, (bias, &slope)) in biases.axis_iter(Axis(0)).zip(&slopes).enumerate() {
        let place = Place {
            x: first.x + 118.0 * (head % 4) as f64,
            y: first.y + 156.0 * (head / 4) as f64,
            ..first
        };
        cells(canvas, place, &bias, BIASES)?;
        let slope = format!("m = 1/{}", axes::signed(1.0 / slope));
        canvas.text((place.x, place.y - 8.0), Anchor::Start, &slope, "");
        let lowest = bias.iter().copied().fold(0.0, f64::min);
        let at = (place.right() - 5.0, place.y + 18.0);
        canvas.text(at, Anchor::End, &thousandths(lowest), "font-size=\"12\"");
    }
    let bar = Place {
        x: first.x + 118.0 * 3.0 + first.width + 18.0,
        width: heatmap::BAR,
        height: first.height + 156.0,
        ..first
    };
    let ticks = [-4.5, -4.0, -3.0, -2.0, -1.0, 0.0];
    heatmap::color_bar(canvas, bar, BIASES, MAP, &ticks, "")
}

/// A colored square for each key that the query may see.
fn cells(
    canvas: &mut Canvas,
    place: Place,
    values: &ArrayView2<'_, f64>,
    range: (f64, f64),
) -> Result<(), PlotError> {
    let size = place.width / SEQ as f64;
    let mut squares = Vec::new();
    for ((query, key), &value) in values.indexed_iter() {
        if key <= query {
            let value = finite(value, "a bias")?;
            squares.push((query, key, hex(MAP.color(share(value, range)))));
        }
    }
    canvas.group("shape-rendering=\"crispEdges\"", |canvas| {
        for (query, key, color) in squares {
            let at = (place.x + key as f64 * size, place.y + query as f64 * size);
            canvas.rect(at, (size, size), &format!("fill=\"{color}\""));
        }
    });
    axes::outline(canvas, place);
    Ok(())
}

fn share(value: f64, (low, high): (f64, f64)) -> f64 {
    (value - low) / (high - low)
}

/// With three decimals, enough for the last head.
fn thousandths(value: f64) -> String {
    // Away from zero in the middle, as one rounds by hand.
    let rounded = (value * 1000.0).round() / 1000.0;
    format!("{rounded:.3}").replace('-', "\u{2212}")
}
