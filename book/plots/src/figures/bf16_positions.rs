//! Positions in bfloat16: neighbors become the same number.

use half::bf16;
use llm_posenc::positions;
use ndarray::Array1;

use crate::axes::{self, Place, Scale};
use crate::canvas::{Anchor, Canvas};
use crate::color::{ALARM, SERIES};
use crate::error::{PlotError, finite};
use crate::figure::{Figure, FigureEntry};

/// The last hundred positions of a context of 4096.
const FIRST: usize = 3996;
const END: usize = 4096;
/// The article's sums.
const SUM_FROM: usize = 255;
const N_SUMS: usize = 5;

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "bf16-positions",
    title: "Positions 3996 to 4095 in bfloat16",
    alt: "Dots of the positions 3996 to 4095: across as float32 has them, up as bfloat16 has them. They do not lie on the diagonal but on \
          seven steps, 16 apart, each with up to 17 positions: a model cannot tell these apart. An inset shows that \
          it begins much earlier: 255 + 0, 1, 2, 3, 4 is 255, 256, 256, 258, 260 in bfloat16, so 256 and 257 collide.",
    draw: bf16_positions,
};

/// The last hundred positions of 4096 in float32 against bfloat16, and 255 + 0..4.
///
/// # Errors
///
/// None that depend on the caller: the settings are fixed.
pub fn bf16_positions() -> Result<Figure, PlotError> {
    let place = Place {
        x: 74.0,
        y: 16.0,
        width: 640.0,
        height: 370.0,
    };
    let across = Scale::new((3992.0, 4104.0), (place.x, place.right()));
    let up = Scale::new((3992.0, 4104.0), (place.bottom(), place.y));
    let steps = steps(FIRST, END)?;
    let x_ticks = [4000.0, 4016.0, 4032.0, 4048.0, 4064.0, 4080.0, 4096.0];
    let y_ticks: Vec<f64> = steps.iter().map(|step| step.value).collect();

    let mut canvas = Canvas::default();
    axes::outline(&mut canvas, place);
    let label = "position in float32 (tokens)";
    axes::below(&mut canvas, place, across, &x_ticks, label);
    let label = "position in bfloat16 (tokens)";
    axes::left(&mut canvas, place, up, &y_ticks, label, 56.0);
    let ends = [FIRST as f64, (END - 1) as f64].map(|p| (across.at(p), up.at(p)));
    canvas.line(
        ends[0],
        ends[1],
        "stroke=\"currentColor\" stroke-opacity=\"0.6\" stroke-dasharray=\"4 4\"",
    );
    let at = (across.at(4040.0) - 8.0, up.at(4041.0));
    canvas.text(at, Anchor::End, "exact", "fill-opacity=\"0.8\"");
    for (index, step) in steps.iter().enumerate() {
        // Two colors in turn, so that one sees where a step ends.
        let color = SERIES[index % 2];
        let y = up.at(step.value);
        canvas.group(&format!("fill=\"{color}\""), |canvas| {
            for &position in &step.positions {
                canvas.circle((across.at(position as f64), y), 2.4, "");
            }
            let last = step.positions.last().map_or(FIRST, |&last| last);
            let at = (across.at(last as f64) + 9.0, y + axes::HALF_TEXT);
            let count = format!("× {}", step.positions.len());
            canvas.text(at, Anchor::Start, &count, "");
        });
    }
    sums(&mut canvas, (place.x + 18.0, place.y + 18.0))?;
    Ok(Figure::new(&ENTRY, 730, 440, canvas))
}

/// The positions that become one number.
struct Step {
    value: f64,
    positions: Vec<usize>,
}

fn steps(first: usize, end: usize) -> Result<Vec<Step>, PlotError> {
    let mut steps: Vec<Step> = Vec::new();
    for (position, value) in (first..end).zip(in_bf16(first, end)?) {
        match steps.last_mut() {
            Some(step) if step.value == value => step.positions.push(position),
            _ => steps.push(Step {
                value,
                positions: vec![position],
            }),
        }
    }
    Ok(steps)
}

/// The positions from `first` to before `end` as bfloat16 has them.
fn in_bf16(first: usize, end: usize) -> Result<Vec<f64>, PlotError> {
    let positions: Array1<usize> = (first..end).collect();
    positions::positions_in::<bf16>(&positions)?
        .iter()
        .map(|&kept| finite(f64::from(kept), "a position"))
        .collect()
}

/// The inset: a small table.
fn sums(canvas: &mut Canvas, (x, y): (f64, f64)) -> Result<(), PlotError> {
    let halves = in_bf16(SUM_FROM, SUM_FROM + N_SUMS)?;
    let column = |index: usize| x + 84.0 + 40.0 * (index + 1) as f64;
    let (row, width) = (22.0, column(N_SUMS - 1) - x + 14.0);
    axes::outline(
        canvas,
        Place {
            x,
            y,
            width,
            height: 3.0 * row + 14.0,
        },
    );
    let baseline = |index: usize| y + 22.0 + row * index as f64;
    for (index, name) in ["255 + n", "float32", "bfloat16"].into_iter().enumerate() {
        canvas.text((x + 12.0, baseline(index)), Anchor::Start, name, "");
    }
    for (n, &half) in halves.iter().enumerate() {
        let whole = (SUM_FROM + n) as f64;
        let twin = halves.iter().filter(|&&other| other == half).count() > 1;
        let style = if twin {
            format!("fill=\"{ALARM}\" font-weight=\"bold\"")
        } else {
            String::new()
        };
        let texts = [
            (n as f64, String::new()),
            (whole, String::new()),
            (half, style),
        ];
        for (index, (value, style)) in texts.into_iter().enumerate() {
            let at = (column(n), baseline(index));
            canvas.text(at, Anchor::End, &axes::signed(value), &style);
        }
    }
    Ok(())
}
