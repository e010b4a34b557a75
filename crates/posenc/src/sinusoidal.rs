//! Sinusoidal position encoding: sines and cosines of geometrically spaced wavelengths, added to the embeddings.

use ndarray::{Array1, Array2, ArrayRef1, ArrayViewMut2, Axis};

use crate::{PosencError, memory};
use llm_numerics::threads;

mod add;
mod decay;

pub use add::{add_at_inplace, add_inplace};
pub use decay::{decay, inner_products};

/// The largest `d_model` that [`SinusoidalConfig`] may ask for.
pub const MAX_D_MODEL: usize = 1 << 20;

/// Elements that are worth a task of their own: a sine takes as long as dozens of additions.
const TASK: usize = 1 << 14;

/// Where the sines and the cosines stand in a row.
///
/// A model has learned with one of them; the other gives wrong results, without any error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinusoidalLayout {
    /// `sin, cos, sin, cos, ..`: the paper, XLM, `DistilBERT`, `SpeechT5`.
    Interleaved,
    /// `sin, sin, .., cos, cos, ..`: tensor2tensor, fairseq, M2M100, Whisper, Marian.
    HalfSplit,
}

/// How the frequencies fall from one radian per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinusoidalExponent {
    /// `base^(-2 i / d_model)`: the paper, Marian, XLM, `DistilBERT`, `SpeechT5`. The last one stays above `1 / base`.
    ///
    /// With an odd `d_model` the last frequency has a sine and no cosine, as in Marian and XLM.
    TwoIOverDim,
    /// `base^(-i / (floor(d_model / 2) - 1))`: tensor2tensor, fairseq, M2M100, Whisper. The last one is `1 / base`.
    ///
    /// With an odd `d_model` the last feature is 0, as in tensor2tensor and fairseq (Whisper refuses it). It takes
    /// at least two frequencies: for fewer, transformers 5.23 divides by zero and tensor2tensor, which
    /// divides by at least 1, keeps the frequency 1.
    IOverHalfDimMinusOne,
}

/// The settings of a sinusoidal encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SinusoidalConfig {
    /// Features of a position; `d_model` of the model that adds them.
    #[doc(alias = "embedding_dim")]
    pub d_model: usize,
    /// Where sines and cosines stand.
    pub layout: SinusoidalLayout,
    /// How frequencies are spaced.
    pub exponent: SinusoidalExponent,
    /// Base of the geometric series of wavelengths; 10 000 unless set.
    #[doc(alias = "max_timescale")]
    pub base: f64,
    /// The position whose row is all zeros, as in fairseq and M2M100; none unless set.
    ///
    /// There, padding tokens have this position and all others come after it: see
    /// [`PositionConvention::Roberta`](crate::learned::PositionConvention::Roberta). Marian takes such a
    /// number too, and ignores it.
    pub padding_idx: Option<usize>,
}

impl SinusoidalConfig {
    /// `base` 10 000, the value of the paper, and no padding row.
    #[must_use]
    pub const fn new(
        d_model: usize,
        layout: SinusoidalLayout,
        exponent: SinusoidalExponent,
    ) -> Self {
        Self {
            d_model,
            layout,
            exponent,
            base: 10_000.0,
            padding_idx: None,
        }
    }

    /// Sets the [`base`](Self::base).
    #[must_use]
    pub const fn with_base(mut self, base: f64) -> Self {
        self.base = base;
        self
    }

    /// Sets the [`padding_idx`](Self::padding_idx).
    #[must_use]
    pub const fn with_padding_idx(mut self, padding_idx: usize) -> Self {
        self.padding_idx = Some(padding_idx);
        self
    }
}

/// The frequencies of the sines, in radians per token.
///
/// ```text
/// TwoIOverDim:           inv_freq_i = base^(-2 i / d_model),                   i = 0 .. ceil(d_model / 2)
/// IOverHalfDimMinusOne:  inv_freq_i = base^(-i / (floor(d_model / 2) - 1)),    i = 0 .. floor(d_model / 2)
/// ```
///
/// # Shapes
///
/// - returns: `[ceil(d_model / 2)]` or `[floor(d_model / 2)]`
///
/// # Errors
///
/// - [`PosencError::SinusoidalDModel`] if `d_model` is 0 or above [`MAX_D_MODEL`], or below 4 with
///   [`IOverHalfDimMinusOne`](SinusoidalExponent::IOverHalfDimMinusOne).
/// - [`PosencError::Base`] if `base` is not finite and above one.
///
/// # Precision
///
/// `f64`. Libraries that compute the power in `f32` differ by some `1e-7`, relative.
///
/// # Example
///
/// ```
/// use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
///
/// let config = SinusoidalConfig::new(4, SinusoidalLayout::HalfSplit, SinusoidalExponent::TwoIOverDim);
/// assert_eq!(sinusoidal::inv_freq(&config)?, ndarray::array![1.0, 0.01]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Vaswani et al., Attention Is All You Need, arXiv:1706.03762v7, section 3.5;
/// `IOverHalfDimMinusOne` as `get_embedding` of M2M100 in transformers 5.23.
pub fn inv_freq(config: &SinusoidalConfig) -> Result<Array1<f64>, PosencError> {
    let SinusoidalConfig { d_model, base, .. } = *config;
    let min = match config.exponent {
        SinusoidalExponent::TwoIOverDim => 1,
        SinusoidalExponent::IOverHalfDimMinusOne => 4,
    };
    if !(min..=MAX_D_MODEL).contains(&d_model) {
        return Err(PosencError::SinusoidalDModel { min, got: d_model });
    }
    if !(base.is_finite() && base > 1.0) {
        return Err(PosencError::Base { got: base });
    }
    // One rounding in the exponent, so that a power of it is as right as it can be.
    let (n, numerator, denominator) = match config.exponent {
        SinusoidalExponent::TwoIOverDim => (d_model.div_ceil(2), 2.0, d_model as f64),
        SinusoidalExponent::IOverHalfDimMinusOne => (d_model / 2, 1.0, (d_model / 2 - 1) as f64),
    };
    Ok((0..n)
        .map(|i| base.powf(-(numerator * i as f64) / denominator))
        .collect())
}

/// The rows of the positions `0 .. n_positions`.
///
/// ```text
/// sine of position p and frequency i:    sin(p inv_freq_i)
/// cosine:                                cos(p inv_freq_i)
/// ```
///
/// They stand where the [layout](SinusoidalLayout) says. The row of `padding_idx`, if there is one, is all zeros.
///
/// # Shapes
///
/// - returns: `[n_positions, d_model]`
///
/// # Errors
///
/// - As [`inv_freq`].
/// - [`PosencError::Position`] if a position is above 2^53.
/// - [`PosencError::TooLarge`] if there is no memory for the table.
///
/// # Precision
///
/// Angles, sines and cosines in `f64`, rounded once to `f32`. With base 10 000 an angle is right to `1.5e-15`
/// times its value in radians, so up to position 10 million the last bit of the `f32` decides.
/// transformers 5.23 forms the angles of M2M100 and Whisper in `f32`: at position 1000 these are off by up to `7e-5`.
///
/// # Example
///
/// ```
/// use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
///
/// // The table that the Transformer paper describes.
/// let config = SinusoidalConfig::new(128, SinusoidalLayout::Interleaved, SinusoidalExponent::TwoIOverDim);
/// let table = sinusoidal::table(80, &config)?; // [n_positions, d_model]
/// assert_eq!(table.dim(), (80, 128));
/// assert_eq!((table[[0, 0]], table[[0, 1]]), (0.0, 1.0));
/// assert_eq!((table[[3, 0]], table[[3, 1]]), (3_f64.sin() as f32, 3_f64.cos() as f32));
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: as [`inv_freq`].
pub fn table(n_positions: usize, config: &SinusoidalConfig) -> Result<Array2<f32>, PosencError> {
    check_range(0, n_positions)?;
    rows(n_positions, config, |t| t)
}

/// The rows of any positions, in their order: `table[positions]` without the table.
///
/// # Shapes
///
/// - `positions`: `[seq]`
/// - returns: `[seq, d_model]`
///
/// # Errors
///
/// As [`table`].
///
/// # Precision
///
/// As [`table`].
///
/// # Example
///
/// ```
/// use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
/// use ndarray::array;
///
/// // fairseq: position 1 is padding, the first token has position 2.
/// let config = SinusoidalConfig::new(6, SinusoidalLayout::HalfSplit, SinusoidalExponent::IOverHalfDimMinusOne)
///     .with_padding_idx(1);
/// let rows = sinusoidal::encode(&array![1, 1, 2, 3], &config)?;
/// assert_eq!(rows.row(1), array![0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
/// assert_eq!(rows[[2, 0]], 2_f64.sin() as f32);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn encode(
    positions: &ArrayRef1<usize>,
    config: &SinusoidalConfig,
) -> Result<Array2<f32>, PosencError> {
    memory::check_size::<usize>(positions.len(), 1)?;
    if let Some((index, &got)) = positions.indexed_iter().find(|&(_, &p)| is_too_far(p)) {
        return Err(PosencError::Position { index, got });
    }
    rows(positions.len(), config, |t| positions[t])
}

/// The frequencies of a config that has been checked, and where their sines and cosines go.
struct Encoder {
    inv_freq: Array1<f64>,
    /// Feature of the first cosine, and the step from one to the next; the first sine is at 0.
    cos: usize,
    step: usize,
    padding_idx: Option<usize>,
}

impl Encoder {
    fn new(config: &SinusoidalConfig) -> Result<Self, PosencError> {
        let inv_freq = inv_freq(config)?;
        let (cos, step) = match config.layout {
            SinusoidalLayout::Interleaved => (1, 2),
            SinusoidalLayout::HalfSplit => (inv_freq.len(), 1),
        };
        Ok(Self {
            inv_freq,
            cos,
            step,
            padding_idx: config.padding_idx,
        })
    }

    /// Writes the row of one position, but for a last feature that belongs to no frequency.
    // ANCHOR: fill
    fn fill(&self, row: &mut [f32], position: usize) {
        if self.padding_idx == Some(position) {
            row.fill(0.0);
            return;
        }
        for (i, inv_freq) in self.inv_freq.iter().enumerate() {
            let (sin, cos) = (position as f64 * inv_freq).sin_cos();
            row[i * self.step] = sin as f32;
            if let Some(place) = row.get_mut(self.cos + i * self.step) {
                *place = cos as f32; // the last one is missing if d_model is odd
            }
        }
    }
    // ANCHOR_END: fill
}

fn rows(
    n: usize,
    config: &SinusoidalConfig,
    position: impl Fn(usize) -> usize + Sync + Send,
) -> Result<Array2<f32>, PosencError> {
    let encoder = Encoder::new(config)?;
    let mut out = memory::zeros(n, config.d_model)?;
    let length = (TASK / config.d_model).max(1);
    let tasks = out.axis_chunks_iter_mut(Axis(0), length).enumerate();
    threads::for_each(
        tasks.collect(),
        |(i, mut out): (usize, ArrayViewMut2<'_, f32>)| {
            for (t, mut row) in out.outer_iter_mut().enumerate() {
                if let Some(row) = row.as_slice_mut() {
                    encoder.fill(row, position(i * length + t));
                }
            }
        },
    );
    Ok(out)
}

/// True if `f64` cannot hold each position up to this one.
fn is_too_far(position: usize) -> bool {
    position as u64 > 1 << 53
}

/// Refuses positions from `first` on of which one is too far.
fn check_range(first: usize, n: usize) -> Result<(), PosencError> {
    // The largest position that is fine; on 32 bits, all are.
    let most = usize::try_from(1_u64 << 53).unwrap_or(usize::MAX);
    let index = match most.checked_sub(first) {
        None => 0,
        Some(room) => room.saturating_add(1),
    };
    if index < n {
        let got = first.saturating_add(index);
        return Err(PosencError::Position { index, got });
    }
    Ok(())
}
