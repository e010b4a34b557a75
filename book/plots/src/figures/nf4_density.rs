//! NF4 beside the normal density, and four other code books below it.

use llm_numerics::philox::Philox4x32;
use llm_quant::af4::{self, ZeroCell};
use llm_quant::code_book::{self, CodeBook, LearnConfig};
use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme, Integers};
use llm_quant::{QuantError, density, fp4, nf4, normal};
use ndarray::Array1;

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

/// Steps of the curve.
const STEPS: usize = 200;
/// Weights that a code is learnt from, the block that they are scaled in, and iterations.
const WEIGHTS: u64 = 1 << 14;
const BLOCK: usize = 64;
const ITERATIONS: usize = 30;

const ROW: f64 = 26.0;

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "nf4-density",
    title: "NF4 beside the normal density",
    alt: "The density of normal weights over the quantile at which NF4 ends, from -1 to 1, and the sixteen values of NF4 under it: near each other \
          where the density is high, far apart where it is low. Dashed lines cut the weights into sixteen cells, each of which has between 5.6 and 7.1 \
          percent of them. Below stand the values of five codes: NF4, AF4 for blocks of 64 and a code learnt from normal weights look alike, FP4 has gaps \
          beside 0 and 1, and integers have equal steps.",
    draw: nf4_density,
};

/// The values of NF4 under the density of the numbers that it is made for, and those of four other codes.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn nf4_density() -> Result<Figure, PlotError> {
    let place = Place {
        x: 84.0,
        y: 16.0,
        width: 580.0,
        height: 240.0,
    };
    let below = Place {
        y: place.bottom() + 16.0,
        height: 5.0 * ROW,
        ..place
    };
    let across = Scale::new((-1.05, 1.05), (place.x, place.right()));
    let up = Scale::new((0.0, 0.8), (place.bottom(), place.y));
    let x_ticks = [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0];
    let y_ticks = [0.0, 0.2, 0.4, 0.6, 0.8];
    let mut canvas = Canvas::default();
    axes::grid(&mut canvas, place, (across, up), (&[], &y_ticks));
    axes::outline(&mut canvas, place);
    axes::left(&mut canvas, place, up, &y_ticks, "density", 46.0);

    // NF4 was divided by this quantile: with it, the weights are back in their own units.
    let scale = normal::quantile(nf4::OFFSET)?;
    let cells = density::cells(&nf4::code(), scale)?;
    let dashed = "stroke=\"currentColor\" stroke-opacity=\"0.5\" stroke-dasharray=\"3 3\" data-part=\"bounds\"";
    canvas.group(dashed, |canvas| {
        for cell in &cells[1..] {
            let x = across.at(cell.low);
            canvas.line((x, place.bottom()), (x, place.y), "");
        }
    });
    let mut points = Vec::with_capacity(STEPS + 1);
    for step in 0..=STEPS {
        let x = -1.05 + 2.1 * step as f64 / STEPS as f64;
        let density = finite(density::at(x, scale)?, "a density")?;
        points.push((across.at(x), up.at(density)));
    }
    canvas.polyline(&points, "stroke=\"currentColor\" stroke-width=\"2\"");
    let style = format!(
        "stroke=\"{0}\" fill=\"{0}\" stroke-width=\"2.5\" data-part=\"values\"",
        SERIES[0]
    );
    canvas.group(&style, |canvas| {
        for cell in &cells {
            let (x, top) = (across.at(cell.value), up.at(cell.density));
            canvas.line((x, place.bottom()), (x, top), "");
            canvas.circle((x, top), 3.0, "");
        }
    });

    axes::outline(&mut canvas, below);
    for (row, (name, values)) in codes()?.into_iter().enumerate() {
        let color = SERIES.get(row).copied().unwrap_or("currentColor");
        let y = below.y + ROW * (row as f64 + 0.5);
        let at = (below.x - 8.0, y + axes::HALF_TEXT);
        canvas.text(at, Anchor::End, name, "");
        let style = format!("fill=\"{color}\" data-code=\"{name}\"");
        canvas.group(&style, |canvas| {
            for value in values {
                canvas.circle((across.at(value.into()), y), 5.0, "");
            }
        });
    }
    let label = "weight, as a share of the scale";
    axes::below(&mut canvas, below, across, &x_ticks, label);
    Ok(Figure::new(&ENTRY, 680, 456, canvas))
}

/// The values of each code.
fn codes() -> Result<[(&'static str, Vec<f32>); 5], QuantError> {
    let random = Philox4x32::new(1);
    let weights: Array1<f32> = (0..WEIGHTS)
        .map(|i| random.normal_f64(0, i) as f32)
        .collect();
    let start = CodeBook::new(nf4::code())?;
    let config = LearnConfig::new(start, BLOCK).with_iterations(ITERATIONS);
    let learnt = code_book::learn(&weights, &config)?;
    // Codes 1 to 15, of which 8 is 0, with 7 steps on each side.
    let config = IntegerConfig::new(IntegerBits::Four, IntegerScheme::Symmetric, 15);
    let packed = vec![0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0];
    let integers = Integers::from_parts(config, &[15], packed, vec![1.0 / 7.0], Vec::new())?;
    let integers = integer::dequantize::<f32>(&integers)?;
    Ok([
        ("NF4", nf4::code().to_vec()),
        ("AF4", af4::code(BLOCK, ZeroCell::Nearest)?.to_vec()),
        ("learnt", learnt.values().to_vec()),
        ("FP4", fp4::code().to_vec()),
        ("integers", integers.into_iter().collect()),
    ])
}
