//! How the error of three codes is spread over the blocks.

use llm_numerics::philox::Philox4x32;
use llm_quant::QuantError;
use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme};
use llm_quant::report::{self, Histogram, HistogramConfig};
use ndarray::{Array1, ArrayD};

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

/// Weights, and how many share a scale.
const WEIGHTS: u64 = 1 << 17;
const BLOCK: usize = 64;
/// Decibels that the picture shows, and bins.
const DECIBELS: (f64, f64) = (13.0, 25.0);
const BINS: usize = 48;

/// Codes, the colors of their lines, how these are broken, and their names.
const CURVES: [(Code, &str, &str, &str); 3] = [
    (Code::FourBit(FourBitCode::Nf4), SERIES[0], "", "NF4"),
    (Code::Integers, "currentColor", "7 4", "integers"),
    (Code::FourBit(FourBitCode::Fp4), SERIES[3], "2 3", "FP4"),
];

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "block-errors",
    title: "Signal to noise of 2048 blocks",
    alt: "Three histograms of the ratio of signal to noise in 2048 blocks of 64 normal weights. The mean is 20.8 decibels for NF4, 19.5 for integers with \
          four bits and 18.4 for FP4. Blocks of NF4 are near each other, from 18 to 24; those of integers are spread from 14 to 24. So a block that \
          NF4 serves badly is rarer.",
    draw: block_errors,
};

#[derive(Clone, Copy, Debug)]
enum Code {
    FourBit(FourBitCode),
    Integers,
}

/// Histograms of the signal-to-noise ratio of blocks for NF4, integers of four bits, and FP4.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn block_errors() -> Result<Figure, PlotError> {
    let place = Place {
        x: 74.0,
        y: 16.0,
        width: 560.0,
        height: 300.0,
    };
    let across = Scale::new(DECIBELS, (place.x, place.right()));
    let up = Scale::new((0.0, 0.16), (place.bottom(), place.y));
    let x_ticks = [13.0, 15.0, 17.0, 19.0, 21.0, 23.0, 25.0];
    let y_ticks = [0.0, 0.04, 0.08, 0.12, 0.16];
    let mut canvas = Canvas::default();
    axes::grid(&mut canvas, place, (across, up), (&x_ticks, &y_ticks));
    axes::outline(&mut canvas, place);
    let label = "signal to noise of a block (dB)";
    axes::below(&mut canvas, place, across, &x_ticks, label);
    axes::left(
        &mut canvas,
        place,
        up,
        &y_ticks,
        "share of the blocks",
        50.0,
    );
    let random = Philox4x32::new(1);
    let weights: Array1<f32> = (0..WEIGHTS)
        .map(|i| random.normal_f64(0, i) as f32)
        .collect();
    let weights = weights.into_dyn();
    for (row, (code, color, dashes, name)) in CURVES.into_iter().enumerate() {
        let histogram = blocks(&weights, code)?;
        let mut points = Vec::with_capacity(2 * BINS + 2);
        points.push((place.x, up.at(0.0)));
        for (bin, &count) in histogram.counts.iter().enumerate() {
            let share = finite(count as f64 * BLOCK as f64 / WEIGHTS as f64, "a share")?;
            for edge in [bin, bin + 1] {
                let width = (DECIBELS.1 - DECIBELS.0) / BINS as f64;
                points.push((across.at(DECIBELS.0 + width * edge as f64), up.at(share)));
            }
        }
        points.push((place.right(), up.at(0.0)));
        let style = format!("stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        canvas.polyline(&points, &style);
        let (x, y) = (place.x + 20.0, place.y + 26.0 + 24.0 * row as f64);
        canvas.line((x, y), (x + 30.0, y), &style);
        let at = (x + 38.0, y + axes::HALF_TEXT);
        canvas.text(at, Anchor::Start, name, "");
    }
    Ok(Figure::new(&ENTRY, 660, 368, canvas))
}

/// How many blocks have how many decibels.
fn blocks(weights: &ArrayD<f32>, code: Code) -> Result<Histogram, QuantError> {
    let back = match code {
        Code::FourBit(code) => {
            let packed = four_bit::quantize(weights, &FourBitConfig::new(code, BLOCK))?;
            four_bit::dequantize(&packed)?
        }
        Code::Integers => {
            let config = IntegerConfig::new(IntegerBits::Four, IntegerScheme::Symmetric, BLOCK);
            integer::dequantize(&integer::quantize(weights, &config)?)?
        }
    };
    let reports = report::by_block(weights, &back, BLOCK)?;
    let decibels = reports.iter().map(|report| report.signal_to_noise);
    let config = HistogramConfig::new(DECIBELS.0..=DECIBELS.1).with_bins(BINS);
    report::histogram(decibels, &config)
}
