//! Frequencies for sequences longer than a model was trained on.

use ndarray::{Array1, ArrayRef1, ArrayRef2};

use super::{MAX_ROTARY_DIM, RopeConfig, RopeTable, inv_freq};
use crate::PosencError;

mod extend;
mod update;
mod yarn;

pub use update::update_sequence;
pub use yarn::{YarnAttention, YarnConfig, YarnDialect};

/// Which rule makes the frequencies, and its settings.
///
/// Lengths are in tokens. With each variant stand its name in `rope_parameters` of a configuration of
/// transformers 5.23 and models that use it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// [`inv_freq`] as it is: `"default"`.
    Default,
    /// Every frequency divided by `factor`: `"linear"`; position interpolation, Chen et al., arXiv:2306.15595v2.
    Linear {
        /// How many times longer sequences become.
        factor: f64,
    },
    /// A base that grows with the sequence: `"dynamic"`; Qwen 1, `InternLM` 2.
    DynamicNtk {
        /// How fast the base grows.
        factor: f64,
        /// Up to this length the base stays.
        max_position_embeddings: usize,
    },
    /// A base multiplied by `alpha^(d / (d - 2))`: `alpha_value` of `ExLlama`; NTK-aware scaling, as its author
    /// published it first. transformers has no name for it: there, set the base.
    StaticNtk {
        /// How many times longer the longest wave becomes.
        alpha: f64,
    },
    /// High frequencies kept, low ones divided, a ramp between them: `"yarn"`; DeepSeek-V2 and V3, Qwen 2.5 and 3, GPT-OSS.
    Yarn(YarnConfig),
    /// Every frequency divided by a factor of its own: `"longrope"`; Phi-3 and Phi-4.
    LongRope(LongRopeConfig),
    /// High frequencies kept, low ones divided, a blend between them: `"llama3"`; Llama 3.1 to 3.3.
    Llama3 {
        /// What low frequencies are divided by; 8 in Llama 3.1.
        factor: f64,
        /// Waves longer than `original_max_position_embeddings / low_freq_factor` are low; 1 in Llama 3.1.
        low_freq_factor: f64,
        /// Waves shorter than `original_max_position_embeddings / high_freq_factor` are high; 4 in Llama 3.1.
        high_freq_factor: f64,
        /// Length that the model was trained on first; 8192 in Llama 3.1.
        original_max_position_embeddings: usize,
    },
    /// Exponents that count in the whole head, and planes of frequency 0 behind the `rotary_dim` that turn:
    /// `"proportional"`; Gemma 4.
    ///
    /// The result has `head_dim / 2` frequencies, so that with half-split pairs the planes are
    /// `(i, i + head_dim / 2)`. transformers takes `rotary_dim / 2 = floor(partial_rotary_factor * head_dim / 2)`.
    Proportional {
        /// Features of a head.
        head_dim: usize,
        /// What every frequency is divided by; 1 in Gemma 4.
        factor: f64,
    },
}

/// The settings of LongRoPE.
///
/// Source: Ding et al., LongRoPE, arXiv:2402.13753v1; `_compute_longrope_parameters` of transformers 5.23.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LongRopeConfig {
    /// Divides each frequency of sequences up to the original length: `[rotary_dim / 2]`.
    pub short_factor: Vec<f64>,
    /// Divides each frequency of longer sequences: `[rotary_dim / 2]`.
    pub long_factor: Vec<f64>,
    /// Length that the model was trained on first.
    pub original_max_position_embeddings: usize,
    /// How many times longer sequences become; only the attention factor depends on it. See [`length_factor`].
    pub factor: f64,
    /// Factor on cosines and sines; `None` for `sqrt(1 + ln factor / ln original)`, or 1 where `factor` is at most 1.
    pub attention_factor: Option<f64>,
}

impl LongRopeConfig {
    /// With the attention factor that follows from `factor`.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::{self, LongRopeConfig, RopeConfig, RopePairing, RopeScaling};
    ///
    /// let config = RopeConfig::new(4, RopePairing::HalfSplit); // frequencies 1 and 0.01
    /// let factors = LongRopeConfig::new(vec![1.0, 1.0], vec![2.0, 4.0], 4096, 8.0);
    /// let scaling = RopeScaling::LongRope(factors);
    /// let long = rope::frequencies(&config, &scaling, Some(5000))?;
    /// assert_eq!(long.inv_freq, ndarray::array![0.5, 0.0025]);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    #[must_use]
    pub const fn new(
        short_factor: Vec<f64>,
        long_factor: Vec<f64>,
        original_max_position_embeddings: usize,
        factor: f64,
    ) -> Self {
        Self {
            short_factor,
            long_factor,
            original_max_position_embeddings,
            factor,
            attention_factor: None,
        }
    }

    /// Sets the [`attention_factor`](Self::attention_factor).
    #[must_use]
    pub const fn with_attention_factor(mut self, attention_factor: f64) -> Self {
        self.attention_factor = Some(attention_factor);
        self
    }
}

/// What a scaling gives: frequencies, and a factor on cosines and sines.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RopeFrequencies {
    /// Radians per token of each plane.
    pub inv_freq: Array1<f64>,
    /// What cosines and sines are multiplied with, so that scores grow by its square.
    pub attention_factor: f64,
}

impl RopeFrequencies {
    /// The table of one sequence.
    ///
    /// # Errors
    ///
    /// As [`RopeTable::new`].
    pub fn table(&self, positions: &ArrayRef1<usize>) -> Result<RopeTable, PosencError> {
        RopeTable::new(&self.inv_freq, positions, self.attention_factor)
    }

    /// The table of a batch: positions `[batch, seq]`.
    ///
    /// # Errors
    ///
    /// As [`RopeTable::for_batch`].
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeScaling};
    ///
    /// let config = RopeConfig::new(8, RopePairing::HalfSplit);
    /// let frequencies = rope::frequencies(&config, &RopeScaling::Linear { factor: 4.0 }, None)?;
    /// let table = frequencies.table_for_batch(&ndarray::array![[0, 4], [0, 8]])?;
    /// assert_eq!(table.cos()[[1, 0]], 1_f32.cos()); // position 4 at a quarter of the frequency
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn table_for_batch(&self, positions: &ArrayRef2<usize>) -> Result<RopeTable, PosencError> {
        RopeTable::for_batch(&self.inv_freq, positions, self.attention_factor)
    }
}

/// The frequencies of a scaling, for a sequence of `seq_len` tokens.
///
/// With `f` = factor, `d` = `rotary_dim`, `w_i = base^(-2 i / d)`, `λ_i = 2 π / w_i`, `L` = length:
///
/// ```text
/// Default        w_i
/// Linear         w_i / f
/// DynamicNtk     (base (f max(seq_len, L) / L - (f - 1))^(d / (d - 2)))^(-2 i / d)
/// StaticNtk      (base α^(d / (d - 2)))^(-2 i / d)
/// LongRope       w_i / short_i up to L tokens, w_i / long_i beyond
/// Llama3         w_i where λ_i < L / high, w_i / f where λ_i > L / low, else
///                (1 - s) w_i / f + s w_i with s = (L / λ_i - low) / (high - low)
/// Proportional   base^(-2 i / head_dim) / f for i < d / 2, then 0
/// Yarn           see YarnConfig
/// ```
///
/// `seq_len` counts all tokens, cached ones included; only `DynamicNtk` and `LongRope` depend
/// on it, and take `None` as "not above the length of the configuration". What a model in
/// transformers does as a sequence grows and shrinks is [`update_sequence`].
///
/// # Shapes
///
/// - returns: `inv_freq: [rotary_dim / 2]`; `[head_dim / 2]` for `Proportional`
///
/// # Errors
///
/// - [`PosencError::RotaryDim`], [`PosencError::Base`] as [`inv_freq`].
/// - [`PosencError::HeadDim`] if the `head_dim` of `Proportional` is odd, zero or above [`MAX_ROTARY_DIM`].
/// - [`PosencError::ScalingNumber`] if a factor is not finite and positive; for LongRoPE's lists
///   [`PosencError::ScalingFactor`].
/// - [`PosencError::ScalingLength`] if a length is zero (for LongRoPE's factor: below two).
/// - [`PosencError::ScalingOrder`] if `low_freq_factor` is not below `high_freq_factor`, or `beta_fast` is below `beta_slow`.
/// - [`PosencError::ScalingLen`] if LongRoPE does not have one factor for each plane.
/// - [`PosencError::NtkRotaryDim`] if `rotary_dim` is 2 where its exponent is `d / (d - 2)`.
/// - [`PosencError::ScaledBase`] if the new base is not finite and above one.
/// - [`PosencError::InvFreq`] if a result is not finite.
/// - [`PosencError::AttentionFactor`] if the factor is not finite as an `f32`.
/// - [`PosencError::RotaryDimAboveHeadDim`] if `Proportional` turns more features than there are.
///
/// # Precision
///
/// `f64`. Libraries that work in `f32` differ by some `1e-6`, relative.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeScaling};
/// use ndarray::array;
///
/// // Llama 3.1
/// let config = RopeConfig::new(128, RopePairing::HalfSplit).with_base(500_000.0);
/// let scaling = RopeScaling::Llama3 {
///     factor: 8.0,
///     low_freq_factor: 1.0,
///     high_freq_factor: 4.0,
///     original_max_position_embeddings: 8192,
/// };
/// let frequencies = rope::frequencies(&config, &scaling, None)?;
/// assert_eq!(frequencies.inv_freq[0], 1.0); // short waves are kept
/// let plain = rope::inv_freq(&config)?;
/// assert_eq!(frequencies.inv_freq[63], plain[63] / 8.0); // long ones are eight times longer
/// let table = frequencies.table(&array![0, 1, 2])?;
/// assert_eq!(table.rows(), 3);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `ROPE_INIT_FUNCTIONS` of transformers 5.23 (`modeling_rope_utils`) for what it names;
/// YaRN: Peng et al., arXiv:2309.00071v2, whose section 3 has both NTK rules too.
pub fn frequencies(
    config: &RopeConfig,
    scaling: &RopeScaling,
    seq_len: Option<usize>,
) -> Result<RopeFrequencies, PosencError> {
    let plain = inv_freq(config)?;
    let (inv_freq, attention_factor) = match scaling {
        RopeScaling::Default => (plain, 1.0),
        RopeScaling::Linear { factor } => (extend::linear(plain, *factor)?, 1.0),
        RopeScaling::DynamicNtk {
            factor,
            max_position_embeddings,
        } => {
            let alpha = extend::dynamic_alpha(*factor, *max_position_embeddings, seq_len)?;
            (extend::ntk(config, alpha)?, 1.0)
        }
        RopeScaling::StaticNtk { alpha } => {
            let alpha = positive("alpha", *alpha)?;
            (extend::ntk(config, alpha)?, 1.0)
        }
        RopeScaling::Yarn(yarn) => yarn.frequencies(config, plain)?,
        RopeScaling::LongRope(long_rope) => extend::long_rope(plain, long_rope, seq_len)?,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let bounds = [*low_freq_factor, *high_freq_factor];
            let original = *original_max_position_embeddings;
            (extend::llama3(plain, *factor, bounds, original)?, 1.0)
        }
        RopeScaling::Proportional { head_dim, factor } => {
            (proportional(config, *head_dim, *factor)?, 1.0)
        }
    };
    if let Some(index) = inv_freq.iter().position(|x| !x.is_finite()) {
        let got = inv_freq[index];
        return Err(PosencError::InvFreq { index, got });
    }
    if !(attention_factor as f32).is_finite() {
        let got = attention_factor;
        return Err(PosencError::AttentionFactor { got });
    }
    Ok(RopeFrequencies {
        inv_freq,
        attention_factor,
    })
}

/// The factor between two lengths, for YaRN and LongRoPE configurations that leave it out.
///
/// `max_position_embeddings / original_max_position_embeddings`, as transformers 5.23 reads `factor: null`.
///
/// # Errors
///
/// - [`PosencError::ScalingLength`] if a length is zero.
///
/// # Example
///
/// ```
/// use llm_posenc::rope;
///
/// assert_eq!(rope::length_factor(131_072, 4096)?, 32.0); // Phi-3
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn length_factor(
    max_position_embeddings: usize,
    original_max_position_embeddings: usize,
) -> Result<f64, PosencError> {
    at_least("max_position_embeddings", max_position_embeddings, 1)?;
    let name = "original_max_position_embeddings";
    at_least(name, original_max_position_embeddings, 1)?;
    Ok(max_position_embeddings as f64 / original_max_position_embeddings as f64)
}

fn proportional(
    config: &RopeConfig,
    head_dim: usize,
    factor: f64,
) -> Result<Array1<f64>, PosencError> {
    let factor = positive("factor", factor)?;
    if head_dim == 0 || head_dim % 2 == 1 || head_dim > MAX_ROTARY_DIM {
        return Err(PosencError::HeadDim {
            multiple: 2,
            max: MAX_ROTARY_DIM,
            got: head_dim,
        });
    }
    let rotary_dim = config.rotary_dim;
    if rotary_dim > head_dim {
        return Err(PosencError::RotaryDimAboveHeadDim {
            rotary_dim,
            head_dim,
        });
    }
    let whole = RopeConfig {
        rotary_dim: head_dim,
        ..*config
    };
    let mut inv_freq = inv_freq(&whole)? / factor;
    inv_freq
        .iter_mut()
        .skip(rotary_dim / 2)
        .for_each(|x| *x = 0.0);
    Ok(inv_freq)
}

/// Refuses a setting that is not finite and positive.
fn positive(name: &'static str, got: f64) -> Result<f64, PosencError> {
    if got > 0.0 && got.is_finite() {
        Ok(got)
    } else {
        Err(PosencError::ScalingNumber { name, got })
    }
}

/// Refuses a length below `min`.
fn at_least(name: &'static str, got: usize, min: usize) -> Result<f64, PosencError> {
    if got >= min {
        Ok(got as f64)
    } else {
        Err(PosencError::ScalingLength { name, min, got })
    }
}
