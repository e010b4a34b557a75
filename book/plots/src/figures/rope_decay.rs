//! The long-range decay of rotary embeddings.

use llm_posenc::rope::{self, RopeConfig, RopePairing};
use ndarray::Array1;

use crate::axes::{self, Place, Scale};
use crate::canvas::Canvas;
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

const DIM: usize = 128;
const N_DISTANCES: usize = 256;

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "rope-decay",
    title: "Long-range decay of rotary position embedding",
    alt: "A curve over the relative distance of two tokens, from 0 to 255: the mean size of the partial sums of the rotations, 128 \
          features, base 10 000. It starts at its maximum, 31.5, at distance 0, falls to less than half of it within 20 tokens, and then \
          goes down slowly, in waves, to between 6 and 10: the farther apart two tokens are, the more the rotations cancel out.",
    draw: rope_decay,
};

/// The mean size of the partial sums of rotations over the relative distance, 128 features, distances 0 to 255.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn rope_decay() -> Result<Figure, PlotError> {
    let place = Place {
        x: 58.0,
        y: 16.0,
        width: 640.0,
        height: 330.0,
    };
    let across = Scale::new((0.0, 256.0), (place.x, place.right()));
    let up = Scale::new((0.0, 35.0), (place.bottom(), place.y));
    let x_ticks = [0.0, 32.0, 64.0, 96.0, 128.0, 160.0, 192.0, 224.0, 256.0];
    let y_ticks = [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0];
    let mut canvas = Canvas::default();
    axes::grid(&mut canvas, place, (across, up), (&x_ticks, &y_ticks));
    axes::outline(&mut canvas, place);
    axes::below(
        &mut canvas,
        place,
        across,
        &x_ticks,
        "relative distance (tokens)",
    );
    let label = "mean size of partial sums |S|";
    axes::left(&mut canvas, place, up, &y_ticks, label, 40.0);

    let inv_freq = rope::inv_freq(&RopeConfig::new(DIM, RopePairing::Interleaved))?;
    let curve = rope::decay(&inv_freq, &(0..N_DISTANCES).collect::<Array1<usize>>())?;
    let mut points = Vec::with_capacity(curve.len());
    for (distance, &size) in curve.iter().enumerate() {
        let size = finite(size, "a mean of partial sums")?;
        points.push((across.at(distance as f64), up.at(size)));
    }
    let style = format!("stroke=\"{}\" stroke-width=\"2\"", SERIES[0]);
    canvas.polyline(&points, &style);
    Ok(Figure::new(&ENTRY, 720, 400, canvas))
}
