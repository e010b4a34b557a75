//! Inner products of sinusoidal encodings: they depend on the distance alone, and fall with it.

use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
use ndarray::Array1;

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::{ColorMap, SERIES};
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};
use crate::heatmap::{self, Pixels};

const N_POSITIONS: usize = 80;
const DIM: usize = 128;
/// The curves: number of features, how the line is broken.
const CURVES: [(usize, &str); 4] = [(256, ""), (128, "9 3"), (64, "5 3"), (32, "2 3")];
/// Curves show positions `MIDDLE - k` and `MIDDLE + k`.
const MIDDLE: i32 = 40;
/// The colors of the matrix. A position with itself has `DIM / 2`.
const RANGE: (f64, f64) = (20.0, 64.0);

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "sinusoidal-dot",
    title: "Inner products of sinusoidal position encodings",
    alt: "Left: the inner products of 80 positions with each other, 128 features. Each diagonal has one color: the product \
          depends on the distance alone; it is 64 on the main diagonal and lower away from it. Right: the product of the positions \
          40 - k and 40 + k over their distance 2k from -78 to 78, for 32, 64, 128 and 256 features. Each curve has its peak, \
          half the number of features, at distance 0, and falls on both sides in waves: near tokens have high products, far ones \
          lower ones.",
    draw: sinusoidal_dot,
};

/// The 80 by 80 inner products with 128 features, and their course over the distance with 32, 64, 128 and 256 features.
///
/// The curves are the products of positions `40 - k` and `40 + k` for `k` from -39 to 39, drawn over the distance `2k`.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn sinusoidal_dot() -> Result<Figure, PlotError> {
    let mut canvas = Canvas::default();
    matrix(&mut canvas)?;
    curves(&mut canvas)?;
    Ok(Figure::new(&ENTRY, 900, 414, canvas))
}

fn config(dim: usize) -> SinusoidalConfig {
    SinusoidalConfig::new(
        dim,
        SinusoidalLayout::Interleaved,
        SinusoidalExponent::TwoIOverDim,
    )
}

fn matrix(canvas: &mut Canvas) -> Result<(), PlotError> {
    let table = sinusoidal::table(N_POSITIONS, &config(DIM))?;
    let products = sinusoidal::inner_products(&table)?.mapv(f64::from);

    let place = Place {
        x: 52.0,
        y: 40.0,
        width: 320.0,
        height: 320.0,
    };
    let pixels = Pixels::new(&products.view(), RANGE, ColorMap::Cool)?;
    canvas.image((place.x, place.y), (place.width, place.height), &pixels);
    axes::outline(canvas, place);
    let from = (-0.5, N_POSITIONS as f64 - 0.5);
    let ticks = [0.0, 20.0, 40.0, 60.0, 79.0];
    let across = Scale::new(from, (place.x, place.right()));
    axes::below(canvas, place, across, &ticks, "position n (tokens)");
    let down = Scale::new(from, (place.y, place.bottom()));
    axes::left(canvas, place, down, &ticks, "position m (tokens)", 36.0);
    let title = format!("p(m) · p(n), d = {DIM}");
    canvas.text((place.x, 24.0), Anchor::Start, &title, "");
    let bar = Place {
        x: place.right() + 14.0,
        width: heatmap::BAR,
        ..place
    };
    let ticks = [20.0, 30.0, 40.0, 50.0, 60.0, 64.0];
    heatmap::color_bar(canvas, bar, RANGE, ColorMap::Cool, &ticks, "")
}

fn curves(canvas: &mut Canvas) -> Result<(), PlotError> {
    let place = Place {
        x: 500.0,
        y: 40.0,
        width: 320.0,
        height: 320.0,
    };
    let across = Scale::new((-80.0, 80.0), (place.x, place.right()));
    let up = Scale::new((0.0, 140.0), (place.bottom(), place.y));
    let x_ticks = [-80.0, -40.0, 0.0, 40.0, 80.0];
    let y_ticks = [0.0, 16.0, 32.0, 64.0, 96.0, 128.0];
    axes::grid(canvas, place, (across, up), (&x_ticks, &y_ticks));
    axes::outline(canvas, place);
    let label = "distance 2k of the two positions (tokens)";
    axes::below(canvas, place, across, &x_ticks, label);
    axes::left(canvas, place, up, &y_ticks, "inner product", 44.0);

    let title = "p(40 − k) · p(40 + k)";
    canvas.text((place.x, 24.0), Anchor::Start, title, "");
    let distances: Array1<f64> = (1 - MIDDLE..MIDDLE).map(|k| f64::from(2 * k)).collect();
    for ((dim, dashes), color) in CURVES.into_iter().zip(SERIES) {
        let products = sinusoidal::decay(&distances, &config(dim))?;
        let mut points = Vec::with_capacity(products.len());
        for (&distance, &product) in distances.iter().zip(&products) {
            let product = finite(product, "an inner product")?;
            points.push((across.at(distance), up.at(product)));
        }
        let style = format!(
            "stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\" data-dim=\"{dim}\""
        );
        canvas.polyline(&points, &style);
        if let Some(&(x, y)) = points.last() {
            let name = format!("d = {dim}");
            canvas.text(
                (x.max(place.right()) + 8.0, y + axes::HALF_TEXT),
                Anchor::Start,
                &name,
                &format!("fill=\"{color}\""),
            );
        }
    }
    Ok(())
}
