//! The usual chain from logits to a token, in the orders that are in use.

use core::fmt;

use llm_numerics::Float;
use ndarray::ArrayRef2;

use crate::categorical::Draw;
use crate::top_k::Ties;
use crate::top_p::SumFrom;
use crate::weights::Softmax;
use crate::{Candidates, SamplingError, categorical, greedy, processor, rows, temperature, top_p};

/// Whose order and tie rules a chain follows.
///
/// Where temperature and top-p are both set, the orders keep different tokens: top-p
/// looks at probabilities, and temperature changes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Temperature, top-k ([`Ties::Kept`]), top-p ([`SumFrom::Smallest`]): transformers 5.23.
    HuggingFace,
    /// Top-k ([`Ties::Exact`]), top-p ([`SumFrom::Largest`]), temperature: llama.cpp's default chain.
    LlamaCpp,
    /// Temperature, top-k ([`Ties::Kept`]), top-p ([`SumFrom::Smallest`]): engine version 1 of vLLM.
    Vllm,
    /// Temperature up to 2, top-p: the settings of OpenAI's interface. The order is not published; it is vLLM's here.
    OpenAi,
}

impl Dialect {
    /// Which of the tokens equal to the k-th a top-k keeps.
    pub(crate) const fn ties(self) -> Ties {
        match self {
            Self::HuggingFace | Self::Vllm | Self::OpenAi => Ties::Kept,
            Self::LlamaCpp => Ties::Exact,
        }
    }

    /// From which end a top-p sums.
    pub(crate) const fn sum_from(self) -> SumFrom {
        match self {
            Self::HuggingFace | Self::Vllm | Self::OpenAi => SumFrom::Smallest,
            Self::LlamaCpp => SumFrom::Largest,
        }
    }

    /// Whether the temperature comes before the filters.
    pub(crate) const fn divides_first(self) -> bool {
        !matches!(self, Self::LlamaCpp)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HuggingFace => "Hugging Face",
            Self::LlamaCpp => "llama.cpp",
            Self::Vllm => "vLLM",
            Self::OpenAi => "OpenAI",
        })
    }
}

/// The temperature below which vLLM is greedy.
pub(crate) const VLLM_GREEDY: f64 = 1e-5;

/// How a token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SamplingMode {
    /// The most likely token; of equals, the lowest id.
    Greedy,
    /// A draw from the filtered distribution.
    Sample {
        /// Order and tie rules.
        dialect: Dialect,
        /// Finite and above 0; 1 changes nothing.
        temperature: f64,
        /// At least 1 once it is checked; `None`, and 0 before that, keeps all.
        top_k: Option<usize>,
        /// In `(0, 1]`; `None` keeps all.
        top_p: Option<f64>,
    },
}

/// A [`SamplingMode`] whose numbers have been checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingConfig {
    mode: SamplingMode,
}

impl SamplingConfig {
    /// The most likely token, always.
    #[must_use]
    pub const fn greedy() -> Self {
        Self {
            mode: SamplingMode::Greedy,
        }
    }

    /// A draw after temperature, top-k and top-p in the order of the dialect; greedy from a temperature of 0 to below 1e-5 in that of vLLM, at 0
    /// in that of OpenAI. A `top_k` of 0 keeps all tokens, as `None` does.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::Temperature`] if the temperature is not finite and above zero, and does not stand for greedy decoding.
    /// - [`SamplingError::TopP`] if `top_p` is not in `(0, 1]`.
    /// - [`SamplingError::NotInDialect`] if there is a `top_k` in the dialect of OpenAI, and [`SamplingError::DialectRange`] if its temperature is
    ///   above 2.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_sampling::{Dialect, SamplingConfig, SamplingError};
    ///
    /// let config = SamplingConfig::sample(Dialect::HuggingFace, 0.7, Some(50), Some(0.9))?;
    /// assert_eq!(
    ///     SamplingConfig::sample(Dialect::HuggingFace, 0.0, None, None),
    ///     Err(SamplingError::Temperature(0.0)) // say SamplingConfig::greedy() instead
    /// );
    /// # Ok::<(), SamplingError>(())
    /// ```
    pub fn sample(
        dialect: Dialect,
        temperature: f64,
        top_k: Option<usize>,
        top_p: Option<f64>,
    ) -> Result<Self, SamplingError> {
        if dialect == Dialect::OpenAi {
            if top_k.is_some() {
                return Err(SamplingError::NotInDialect {
                    dialect,
                    setting: "top_k",
                });
            }
            if temperature > 2.0 {
                return Err(SamplingError::DialectRange {
                    dialect,
                    setting: "temperature",
                    value: temperature,
                    least: 0.0,
                    most: 2.0,
                });
            }
        }
        let top_k = top_k.filter(|&k| k > 0);
        top_p.map_or(Ok(()), top_p::validate)?;
        let is_greedy = match dialect {
            Dialect::HuggingFace | Dialect::LlamaCpp => false,
            Dialect::Vllm => (0.0..VLLM_GREEDY).contains(&temperature),
            Dialect::OpenAi => temperature == 0.0,
        };
        if is_greedy {
            return Ok(Self::greedy());
        }
        temperature::validate(temperature)?;
        Ok(Self {
            mode: SamplingMode::Sample {
                dialect,
                temperature,
                top_k,
                top_p,
            },
        })
    }

    /// What was asked for.
    #[must_use]
    pub const fn mode(&self) -> SamplingMode {
        self.mode
    }
}

/// Chooses a token for each row of logits.
///
/// ```text
/// Greedy:       argmax x
/// HuggingFace:  x -> x / T -> top-k -> top-p -> softmax -> inverse CDF at u   (Vllm and OpenAi, too)
/// LlamaCpp:     x -> top-k -> top-p -> x / T -> softmax -> inverse CDF at u
/// ```
///
/// A row's token depends on that row and its uniform number only, so it is the same for any packing of rows into batches.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, any strides
/// - `uniforms`: `[batch]`, each in `[0, 1)`; not looked at for greedy decoding
/// - returns: `[batch]`
///
/// # Errors
///
/// - [`SamplingError::UniformsLen`], [`SamplingError::Uniform`].
/// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`],
///   [`SamplingError::Vocab`], [`SamplingError::TemperatureOverflow`].
///
/// # Precision
///
/// That of the parts: [`temperature`], [`top_p`], [`categorical::draw`]. Log-probabilities are in `f64`.
///
/// # Example
///
/// ```
/// use llm_numerics::philox::Philox4x32;
/// use llm_sampling::{Dialect, SamplingConfig, sampler};
/// use ndarray::array;
///
/// let logits = array![[3.0_f32, 2.0, 1.0], [0.0, 0.0, 9.0]];
/// let config = SamplingConfig::sample(Dialect::HuggingFace, 0.5, None, Some(0.8))?;
/// let random = Philox4x32::new(42);
/// let uniforms = [random.uniform_f64(0, 0), random.uniform_f64(1, 0)]; // a stream for each row
/// let draws = sampler::sample(&logits, &config, &uniforms)?;
/// assert_eq!(draws[0].token, 0); // top-p kept nothing else
/// assert_eq!(draws[1].token, 2);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn sample<F: Float>(
    logits: &ArrayRef2<F>,
    config: &SamplingConfig,
    uniforms: &[f64],
) -> Result<Vec<Draw>, SamplingError> {
    let batch = logits.nrows();
    if config.mode != SamplingMode::Greedy {
        if uniforms.len() != batch {
            return Err(SamplingError::UniformsLen {
                expected: batch,
                got: uniforms.len(),
            });
        }
        uniforms
            .iter()
            .try_for_each(|&u| categorical::check_uniform(u))?;
    }
    let mut draws = Vec::with_capacity(batch);
    let mut candidates = Candidates::new();
    rows::try_for_each(logits, |i, row| {
        let u = uniforms.get(i).copied().unwrap_or(0.0); // greedy decoding needs none
        draws.push(choose(row, config, u, &mut candidates)?);
        Ok(())
    })?;
    Ok(draws)
}

/// [`sample`] of one row with a checked `u`, and with memory to be used again.
pub(crate) fn choose<F: Float>(
    row: &[F],
    config: &SamplingConfig,
    u: f64,
    candidates: &mut Candidates<F>,
) -> Result<Draw, SamplingError> {
    if config.mode == SamplingMode::Greedy {
        return greedy_slice(row);
    }
    config.fill(row, candidates)?;
    categorical::draw_candidates(candidates, u)
}

/// Only the processors of the chain: what [`sample`] draws from, as logits.
///
/// Nothing happens for greedy decoding.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, any strides
///
/// # Errors
///
/// Those of [`sample`] about logits. On an error, the logits are unchanged.
///
/// # Example
///
/// ```
/// use llm_sampling::{Dialect, SamplingConfig, sampler};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// let mut logits = array![[3.0, 2.0, 1.0]];
/// let config = SamplingConfig::sample(Dialect::LlamaCpp, 0.5, None, Some(0.8))?;
/// sampler::apply_inplace(&mut logits, &config)?;
/// assert_eq!(logits, array![[6.0, 4.0, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn apply_inplace<F: Float>(
    logits: &mut ArrayRef2<F>,
    config: &SamplingConfig,
) -> Result<(), SamplingError> {
    if config.mode == SamplingMode::Greedy {
        return Ok(());
    }
    processor::replace_rows(logits, |_, row, candidates| config.fill(row, candidates))
}

fn greedy_slice<F: Float>(row: &[F]) -> Result<Draw, SamplingError> {
    let token = greedy::argmax_slice(row)?;
    let max = row[token as usize];
    Ok(Draw {
        token,
        log_probability: Softmax::new(row, max).log_probability(max),
    })
}

impl SamplingConfig {
    /// Fills in what the chain leaves of a row.
    fn fill<F: Float>(
        &self,
        row: &[F],
        candidates: &mut Candidates<F>,
    ) -> Result<(), SamplingError> {
        let SamplingMode::Sample {
            dialect,
            temperature,
            top_k,
            top_p,
        } = self.mode
        else {
            return candidates.fill(row);
        };
        let (before, after) = if dialect.divides_first() {
            (temperature, 1.0)
        } else {
            (1.0, temperature)
        };
        if let Some(k) = top_k {
            candidates.fill_largest(row, before, k, dialect.ties())?;
            candidates.max()?;
        } else {
            candidates.fill(row)?;
            candidates.max()?;
            candidates.divide(before)?;
        }
        if let Some(p) = top_p {
            top_p::keep(candidates, p, dialect.sum_from(), 1)?;
        }
        candidates.divide(after)
    }
}
