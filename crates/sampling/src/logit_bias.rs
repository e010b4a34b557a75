//! Logit bias: what the caller adds to the logits of some tokens.

use llm_numerics::Float;

use crate::candidates::limited;
use crate::{Candidates, Context, Processor, SamplingError};

/// Adds a number to the logits of some tokens.
///
/// ```text
/// x_i <- x_i + bias_i
/// ```
///
/// `-inf` bans a token; nothing brings back a token that is masked already. Biases of the same token add up, as in llama.cpp (on a row whose
/// order nothing has changed). Ids that the vocabulary does not have are passed over, as in llama.cpp on the CPU; OpenAI and vLLM refuse them.
///
/// # Order
///
/// First of all in llama.cpp, and before the penalties in vLLM; so before the temperature in both.
///
/// # Precision
///
/// In `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::logit_bias::LogitBias;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[3.0_f32, 2.0, 1.0]];
/// let bias = LogitBias::new(&[(2, 1.5), (0, f64::NEG_INFINITY)])?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &bias)?;
/// assert_eq!(logits, array![[f32::NEG_INFINITY, 2.0, 2.5]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: OpenAI, API reference of chat completions, `logit_bias`; `llama_sampler_logit_bias` of llama.cpp (llama-cpp-python 0.3.36).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogitBias {
    biases: Vec<(u32, f64)>, // ascending ids, each once
}

impl LogitBias {
    /// The processor; without biases it changes nothing.
    ///
    /// # Errors
    ///
    /// [`SamplingError::LogitBias`] if the biases of a token are NaN or sum to infinity.
    pub fn new(biases: &[(u32, f64)]) -> Result<Self, SamplingError> {
        Self::within(biases, f64::NEG_INFINITY, f64::MAX)
    }

    /// With the limits of OpenAI, where -100 is meant to ban a token, and 100 to force it.
    ///
    /// # Errors
    ///
    /// [`SamplingError::LogitBias`] if the bias of a token is not in `[-100, 100]`.
    pub fn openai(biases: &[(u32, f64)]) -> Result<Self, SamplingError> {
        Self::within(biases, -100.0, 100.0)
    }

    fn within(biases: &[(u32, f64)], least: f64, most: f64) -> Result<Self, SamplingError> {
        let mut sorted = biases.to_vec();
        sorted.sort_by_key(|&(token, _)| token); // stable: sums are in the order of the caller
        let mut sums: Vec<(u32, f64)> = Vec::with_capacity(sorted.len());
        for (token, bias) in sorted {
            match sums.last_mut() {
                Some((last, sum)) if *last == token => *sum += bias,
                _ => sums.push((token, bias)),
            }
        }
        for &(token, bias) in &sums {
            if !(least..=most).contains(&bias) {
                return Err(SamplingError::LogitBias {
                    token,
                    bias,
                    least,
                    most,
                });
            }
        }
        Ok(Self { biases: sums })
    }
}

impl<F: Float> Processor<F> for LogitBias {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`] if the logit of a token with a bias is NaN.
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        for &(token, bias) in &self.biases {
            let Some(x) = candidates.get_mut(token) else {
                continue;
            };
            if x.is_nan() {
                return Err(SamplingError::NanLogits {
                    row: 0,
                    token: token as usize,
                });
            }
            if *x > F::neg_infinity() {
                *x = if bias == f64::NEG_INFINITY {
                    F::neg_infinity()
                } else {
                    limited(x.as_f64() + bias, x.is_finite())
                };
            }
        }
        Ok(())
    }
}
