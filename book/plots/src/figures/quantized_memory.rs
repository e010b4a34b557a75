//! What quantized weights weigh: the scales by block size, and a whole model.

use llm_quant::QuantError;
use llm_quant::calculator::{ScaleStorage, bits_per_weight};
use llm_quant::four_bit::BLOCKS;

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::SERIES;
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

/// Weights of the model.
const WEIGHTS: f64 = 65e9;
/// Gigabytes of the card on which the paper trains adapters of such a model.
const CARD: f64 = 48.0;
/// How scales are stored, how the line is broken, and its name.
const CURVES: [(ScaleStorage, &str, &str); 2] = [
    (ScaleStorage::Plain, "", "a scale of 32 bits"),
    (ScaleStorage::Nested, "7 4", "double quantization"),
];
const ROW: f64 = 34.0;

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "quantized-memory",
    title: "Memory of quantized weights",
    alt: "Above: bits that scales add to each weight, over the block size. With a scale of 32 bits for each block these are 1 for blocks of 32, 0.5 for 64 \
          and 0.125 for 256; with double quantization 0.25, 0.127 and 0.032. So double quantization has blocks of 64 at the price of 256. Below: a model \
          with 65 billion weights has 130 GB in 16 bits, 65.1 in 8, 36.6 in 4 with scales for blocks of 64, and 33.5 with double quantization. Only \
          the last two fit on a card with 48 GB.",
    draw: quantized_memory,
};

/// Bits of scales over the block size, and bytes of a model by number of bits.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn quantized_memory() -> Result<Figure, PlotError> {
    let mut canvas = Canvas::default();
    scales(&mut canvas)?;
    model(&mut canvas)?;
    Ok(Figure::new(&ENTRY, 680, 456, canvas))
}

/// Bits that scales add to a weight.
fn scales(canvas: &mut Canvas) -> Result<(), PlotError> {
    let place = Place {
        x: 100.0,
        y: 16.0,
        width: 560.0,
        height: 170.0,
    };
    let last = (BLOCKS.len() - 1) as f64;
    let across = Scale::new((-0.3, last + 0.3), (place.x, place.right()));
    let up = Scale::new((0.0, 1.0), (place.bottom(), place.y));
    let y_ticks = [0.0, 0.25, 0.5, 0.75, 1.0];
    axes::grid(canvas, place, (across, up), (&[], &y_ticks));
    axes::outline(canvas, place);
    let label = "bits a weight for scales";
    axes::left(canvas, place, up, &y_ticks, label, 50.0);
    for (i, block) in BLOCKS.into_iter().enumerate() {
        let (x, y) = (across.at(i as f64), place.bottom());
        canvas.line((x, y), (x, y + 5.0), "stroke=\"currentColor\"");
        let at = (x, y + 22.0);
        canvas.text(at, Anchor::Middle, &block.to_string(), "");
    }
    let at = (place.middle().0, place.bottom() + 43.0);
    canvas.text(at, Anchor::Middle, "block (weights)", "");
    for (row, ((scales, dashes, name), color)) in CURVES.into_iter().zip(SERIES).enumerate() {
        let mut points = Vec::new();
        for (i, block) in BLOCKS.into_iter().enumerate() {
            let bits = finite(bits_per_weight(0, block, scales)?, "a number of bits")?;
            points.push((across.at(i as f64), up.at(bits)));
        }
        let style = format!("stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        canvas.polyline(&points, &style);
        canvas.group(&format!("fill=\"{color}\""), |canvas| {
            for &point in &points {
                canvas.circle(point, 3.5, "");
            }
        });
        // The legend, in the corner that has no curve.
        let (x, y) = (place.x + 330.0, place.y + 26.0 + 24.0 * row as f64);
        canvas.line((x, y), (x + 30.0, y), &style);
        let at = (x + 38.0, y + axes::HALF_TEXT);
        canvas.text(at, Anchor::Start, name, "");
    }
    Ok(())
}

/// Gigabytes of a model, those of the scales apart.
fn model(canvas: &mut Canvas) -> Result<(), PlotError> {
    let place = Place {
        x: 100.0,
        y: 264.0,
        width: 560.0,
        height: 4.0 * ROW,
    };
    let across = Scale::new((0.0, 140.0), (place.x, place.right()));
    let ticks = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0];
    axes::grid(
        canvas,
        place,
        (across, Scale::new((0.0, 1.0), (0.0, 1.0))),
        (&ticks, &[]),
    );
    axes::outline(canvas, place);
    let label = "65 billion weights (GB)";
    axes::below(canvas, place, across, &ticks, label);
    for (row, (name, bits, scales)) in rows()?.into_iter().enumerate() {
        let y = place.y + ROW * row as f64;
        let gigabytes = |bits: f64| finite(bits * WEIGHTS / 8.0 / 1e9, "a size");
        let (codes, all) = (gigabytes(bits)?, gigabytes(bits + scales)?);
        let at = (place.x - 8.0, y + ROW / 2.0 + axes::HALF_TEXT);
        canvas.text(at, Anchor::End, name, "");
        canvas.group(&format!("data-row=\"{name}\""), |canvas| {
            for (from, to, color) in [(0.0, codes, SERIES[0]), (codes, all, SERIES[1])] {
                let (x, end) = (across.at(from), across.at(to));
                let size = (end - x, ROW - 12.0);
                canvas.rect((x, y + 6.0), size, &format!("fill=\"{color}\""));
            }
        });
        // The first bar leaves no room behind it, but within it.
        let (x, anchor, ink) = match row {
            0 => (across.at(all) - 8.0, Anchor::End, "fill=\"#000000\""),
            _ => (across.at(all) + 8.0, Anchor::Start, ""),
        };
        let at = (x, y + ROW / 2.0 + axes::HALF_TEXT);
        canvas.text(at, anchor, &format!("{all:.1}"), ink);
    }
    let x = across.at(CARD);
    let style = "stroke=\"currentColor\" stroke-width=\"2\" stroke-dasharray=\"6 4\"";
    canvas.line(
        (x, place.y),
        (x, place.bottom()),
        &format!("{style} data-card=\"48\""),
    );
    let at = (x + 12.0, place.bottom() - 1.5 * ROW + axes::HALF_TEXT);
    canvas.text(at, Anchor::Start, "a card with 48 GB", "");
    // The legend, at the lower right.
    for (row, (name, color)) in { [("codes", SERIES[0]), ("scales", SERIES[1])] }
        .into_iter()
        .enumerate()
    {
        let (x, y) = (
            place.right() - 90.0,
            place.y + 2.0 * ROW + 10.0 + 24.0 * row as f64,
        );
        canvas.rect((x, y), (14.0, 14.0), &format!("fill=\"{color}\""));
        canvas.text((x + 22.0, y + 12.0), Anchor::Start, name, "");
    }
    Ok(())
}

/// Bits of a code, and of scales for each weight.
fn rows() -> Result<[(&'static str, f64, f64); 4], QuantError> {
    Ok([
        ("16 bits", 16.0, 0.0),
        (
            "8 bits",
            8.0,
            bits_per_weight(0, 4096, ScaleStorage::Plain)?,
        ),
        ("4 bits", 4.0, bits_per_weight(0, 64, ScaleStorage::Plain)?),
        (
            "4, double",
            4.0,
            bits_per_weight(0, 64, ScaleStorage::Nested)?,
        ),
    ])
}
