//! The widget of RoPE: some of the planes that turn, and how the score of two tokens depends on their distance.

use llm_posenc::rope::{self, RopeConfig, RopeFrequencies, RopePairing, RopeScaling, YarnConfig};
use ndarray::{Array1, Array2, Array4, s};

use crate::WidgetError;
use crate::svg::{Anchor, Pen, Picture, short};

/// Features of the head that the widget shows.
pub const HEAD_DIM: usize = 64;

/// The last position that the widget shows.
pub const LAST_POSITION: usize = 65_536;

/// The names of the pairings, as in the control.
pub const PAIRINGS: &[&str] = &["interleaved", "half-split"];

/// The names of the scalings, as in the control.
pub const SCALINGS: &[&str] = &[
    "none",
    "linear",
    "dynamic-ntk",
    "static-ntk",
    "yarn",
    "llama3",
];

/// The length that the scalings take as trained, but for Llama 3.1, which has its own 8192.
pub const TRAINED: usize = 2048;

/// How many times longer the scalings make a sequence, but for Llama 3.1, which has its own 8.
pub const FACTOR: f64 = 4.0;

/// The planes that are drawn, from the fastest to the slowest.
const SHOWN: [usize; 6] = [0, 6, 12, 18, 24, 31];

/// The names of the two curves: symbols, which need no translation.
const SCORE: &str =
    "⟨R<tspan dy=\"3\" font-size=\"9\">m</tspan><tspan dy=\"-3\">q, q⟩ / ⟨q, q⟩</tspan>";
const MEAN: &str = "D(m) / D(0)";

/// The most distances at which the curve is computed.
const MOST_POINTS: usize = 512;

/// What the reader has set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    position: usize,
    config: RopeConfig,
    scaling: RopeScaling,
}

impl Settings {
    /// Checks what came from the controls; the base is checked by the functions that use it.
    ///
    /// # Errors
    ///
    /// - [`WidgetError::Position`] if `position` is no whole number in `0..=`[`LAST_POSITION`].
    /// - [`WidgetError::Choice`] if there is no such pairing or scaling.
    pub fn new(
        position: f64,
        base: f64,
        pairing: &str,
        scaling: &str,
    ) -> Result<Self, WidgetError> {
        if !(position >= 0.0 && position <= LAST_POSITION as f64 && position.fract() == 0.0) {
            return Err(WidgetError::Position {
                got: position,
                most: LAST_POSITION,
            });
        }
        let pairing = match pairing {
            "interleaved" => RopePairing::Interleaved,
            "half-split" => RopePairing::HalfSplit,
            _ => return Err(unknown("pairing", pairing, PAIRINGS)),
        };
        let scaling = match scaling {
            "none" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: FACTOR },
            "dynamic-ntk" => RopeScaling::DynamicNtk {
                factor: FACTOR,
                max_position_embeddings: TRAINED,
            },
            "static-ntk" => RopeScaling::StaticNtk { alpha: FACTOR },
            "yarn" => RopeScaling::Yarn(YarnConfig::hugging_face(FACTOR, TRAINED)),
            "llama3" => RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            },
            _ => return Err(unknown("scaling", scaling, SCALINGS)),
        };
        Ok(Self {
            position: position as usize,
            config: RopeConfig::new(HEAD_DIM, pairing).with_base(base),
            scaling,
        })
    }

    /// Those of a sequence that ends with the position.
    fn frequencies(&self) -> Result<RopeFrequencies, WidgetError> {
        let seq_len = Some(self.position + 1);
        Ok(rope::frequencies(&self.config, &self.scaling, seq_len)?)
    }

    /// The largest distance of the curve: a power of two that is not below the position.
    fn span(&self) -> usize {
        self.position.max(256).next_power_of_two()
    }
}

fn unknown(control: &'static str, got: &str, known: &'static [&'static str]) -> WidgetError {
    WidgetError::Choice {
        control,
        got: got.to_owned(),
        known,
    }
}

/// The fixed vector of the widget, query and key at once: 1 in its first half and 0.5 in its second, so that one
/// can see which features a pairing puts together.
fn query() -> Array1<f64> {
    Array1::from_shape_fn(HEAD_DIM, |j| if j < HEAD_DIM / 2 { 1.0 } else { 0.5 })
}

/// The fixed vector at each of the positions: `[seq, head_dim]`.
fn rotated(settings: &Settings, positions: &Array1<usize>) -> Result<Array2<f64>, WidgetError> {
    let seq = positions.len();
    let x = Array4::from_shape_fn((1, 1, seq, HEAD_DIM), |(_, _, _, j)| query()[j]);
    let table = settings.frequencies()?.table(positions)?;
    let y = rope::apply(&x, &table, settings.config.pairing)?;
    Ok(y.slice(s![0, 0, .., ..]).to_owned())
}

/// `⟨R_m q, R_0 q⟩ / ⟨q, q⟩` at each of the distances `m`.
fn scores(settings: &Settings, distances: &Array1<usize>) -> Result<Array1<f64>, WidgetError> {
    let q = query();
    let origin = rotated(settings, &Array1::zeros(1))?.row(0).to_owned();
    Ok(rotated(settings, distances)?.dot(&origin) / q.dot(&q))
}

/// The score of the fixed vector at the position with itself at position 0, over its score without RoPE.
///
/// ```text
/// ⟨R_m q, R_0 q⟩ / ⟨q, q⟩
/// ```
///
/// # Errors
///
/// - [`WidgetError::Posenc`] if the base is not finite and above one.
pub fn score(settings: &Settings) -> Result<f64, WidgetError> {
    Ok(scores(settings, &Array1::from_elem(1, settings.position))?[0])
}

/// Six of the 32 planes: the vector at position 0 (dashed) and at the position.
///
/// # Errors
///
/// As [`score`].
pub fn planes_svg(settings: &Settings) -> Result<String, WidgetError> {
    let y = rotated(settings, &ndarray::array![0, settings.position])?;
    let inv_freq = settings.frequencies()?.inv_freq;
    let mut picture = Picture::new(600, 166, "R_m q");
    for (column, i) in SHOWN.into_iter().enumerate() {
        let (first, second) = match settings.config.pairing {
            RopePairing::Interleaved => (2 * i, 2 * i + 1),
            _ => (i, i + HEAD_DIM / 2),
        };
        let center = (50.0 + 100.0 * column as f64, 52.0);
        let (unit, right, up) = (30.0, y.column(first), y.column(second));
        let tip = |row: usize| (center.0 + unit * right[row], center.1 - unit * up[row]);
        picture.circle(center, unit * right[0].hypot(up[0]), Pen::text(1.0, 0.3));
        picture.line(&[center, tip(0)], Pen::text(1.5, 0.6).dashed());
        picture.arrow(center, tip(1), Pen::accent(2.5));
        let angle = settings.position as f64 * inv_freq[i];
        for (line, text) in [
            format!("i = {i}"),
            format!("({first}, {second})"),
            format!("θ = {}", short(inv_freq[i])),
            format!("mθ = {}", short(angle)),
        ]
        .iter()
        .enumerate()
        {
            picture.text((center.0, 113.0 + 16.0 * line as f64), Anchor::Middle, text);
        }
    }
    Ok(picture.finish())
}

/// The score at each distance up to a power of two, with the position marked, and the curve of [`rope::decay`] over its
/// value at distance zero.
///
/// # Errors
///
/// As [`score`].
pub fn decay_svg(settings: &Settings) -> Result<String, WidgetError> {
    let span = settings.span();
    let step = span.div_ceil(MOST_POINTS);
    let distances: Array1<usize> = (0..=span).step_by(step).collect();
    let curve = scores(settings, &distances)?;
    let mean = rope::decay(&settings.frequencies()?.inv_freq, &distances)?;
    let here = score(settings)?;
    let lowest = curve.fold(here, |least, &x| x.min(least));
    let highest = curve.fold(1.0_f64, |most, &x| x.max(most));
    let (low, high) = (
        (2.0 * lowest).floor().min(0.0) / 2.0,
        (2.0 * highest).ceil() / 2.0,
    );

    let mut picture = Picture::new(600, 230, "⟨R_m q, q⟩ / ⟨q, q⟩");
    let (left, right, top, bottom) = (45.0, 585.0, 28.0, 205.0);
    let x = |distance: f64| left + (right - left) * distance / span as f64;
    let y = |score: f64| bottom - (bottom - top) * (score - low) / (high - low);
    let n_ticks = ((high - low) * 2.0).round() as usize;
    for tick in 0..=n_ticks {
        let value = low + tick as f64 / 2.0;
        picture.line(&[(left, y(value)), (right, y(value))], Pen::text(1.0, 0.2));
        picture.text(
            (left - 6.0, y(value) + 4.0),
            Anchor::End,
            &format!("{value:.1}"),
        );
    }
    for quarter in 0..=4 {
        let distance = span / 4 * quarter;
        let at = x(distance as f64);
        picture.line(&[(at, bottom), (at, bottom + 4.0)], Pen::text(1.0, 0.6));
        picture.text((at, bottom + 18.0), Anchor::Middle, &distance.to_string());
    }
    picture.text((right - 9.0, bottom - 6.0), Anchor::Start, "m");
    picture.line(&[(left, y(0.0)), (right, y(0.0))], Pen::text(1.0, 0.6));
    let path = |values: &Array1<f64>, over: f64| -> Vec<(f64, f64)> {
        let points = distances.iter().zip(values);
        points
            .map(|(&distance, value)| (x(distance as f64), y(value / over)))
            .collect()
    };
    let thin = if step == 1 { 1.5 } else { 0.8 };
    let (thick, thin) = (Pen::text(4.0, 0.3), Pen::text(thin, 0.9));
    picture.line(&path(&mean, mean[0]), thick);
    picture.line(&path(&curve, 1.0), thin);
    for (column, pen, name) in [(0.0, thin, SCORE), (170.0, thick, MEAN)] {
        let start = left + column;
        picture.line(&[(start, 10.0), (start + 20.0, 10.0)], pen);
        picture.text((start + 26.0, 14.0), Anchor::Start, name);
    }
    let mark = (x(settings.position as f64), y(here));
    picture.line(&[(mark.0, bottom), mark], Pen::accent(1.0).dashed());
    picture.dot(mark, 4.5);
    Ok(picture.finish())
}
