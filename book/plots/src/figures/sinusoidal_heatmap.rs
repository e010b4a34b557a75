//! The table of the sinusoidal encoding as a picture.

use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};

use crate::axes::{self, Place, Scale};
use crate::canvas::Canvas;
use crate::color::ColorMap;
use crate::error::PlotError;
use crate::figure::{Figure, FigureEntry};
use crate::heatmap::{self, Pixels};

const N_POSITIONS: usize = 80;
const DIM: usize = 128;

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "sinusoidal-heatmap",
    title: "Sinusoidal position encoding of 80 positions with 128 features",
    alt: "A table of colors: positions 0 to 79 from top to bottom, features 0 to 127 from left to right, values from -1 to 1. \
          The first features change from row to row, each pair more slowly than the one before it; from about feature 90 on the \
          columns hardly change any more, odd ones (cosines) near 1 and even ones (sines) near 0. \
          So near positions differ in the first features only, far ones in more of them.",
    draw: sinusoidal_heatmap,
};

/// The table of 80 positions and 128 interleaved features, base 10 000.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn sinusoidal_heatmap() -> Result<Figure, PlotError> {
    let config = SinusoidalConfig::new(
        DIM,
        SinusoidalLayout::Interleaved,
        SinusoidalExponent::TwoIOverDim,
    );
    let table = sinusoidal::table(N_POSITIONS, &config)?.mapv(f64::from);

    let place = Place {
        x: 56.0,
        y: 34.0,
        width: 640.0,
        height: 400.0,
    };
    let range = (-1.0, 1.0);
    let mut canvas = Canvas::default();
    let pixels = Pixels::new(&table.view(), range, ColorMap::Rainbow)?;
    canvas.image((place.x, place.y), (place.width, place.height), &pixels);
    axes::outline(&mut canvas, place);
    // A tick stands in the middle of its cell.
    let across = Scale::new((-0.5, DIM as f64 - 0.5), (place.x, place.right()));
    let down = Scale::new((-0.5, N_POSITIONS as f64 - 0.5), (place.y, place.bottom()));
    let features = [0.0, 16.0, 32.0, 48.0, 64.0, 80.0, 96.0, 112.0, 127.0];
    axes::below(&mut canvas, place, across, &features, "feature (index)");
    let positions = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 79.0];
    axes::left(
        &mut canvas,
        place,
        down,
        &positions,
        "position (tokens)",
        38.0,
    );
    let bar = Place {
        x: place.right() + 18.0,
        width: heatmap::BAR,
        ..place
    };
    let ticks = [-1.0, -0.5, 0.0, 0.5, 1.0];
    heatmap::color_bar(&mut canvas, bar, range, ColorMap::Rainbow, &ticks, "value")?;
    Ok(Figure::new(&ENTRY, 782, 488, canvas))
}
