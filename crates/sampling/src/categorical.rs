//! Drawing a token from a distribution with one uniform number.

use llm_numerics::Float;
use ndarray::ArrayRef1;

use crate::{Candidates, SamplingError, rows};

/// A token that was drawn, and how likely it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Id of the token.
    pub token: u32,
    /// Natural logarithm of its probability, in nats: under the distribution that it was
    /// drawn from, so after temperature and filters. For greedy decoding, under the softmax of the logits.
    pub log_probability: f64,
}

/// Picks the token whose slice of the cumulative distribution contains `u`.
///
/// ```text
/// token = min { i : p_0 + .. + p_i > u (p_0 + .. + p_(n-1)) }
/// ```
///
/// `u` is the caller's uniform draw in `[0, 1)`; there is no random state here, so a draw
/// can be replayed, shared or enumerated in a test. A token of probability 0 is never picked.
///
/// # Shapes
///
/// - `probabilities`: `[vocab]`, any stride; they need not sum to 1
///
/// # Errors
///
/// - [`SamplingError::Uniform`] if `u` is not in `[0, 1)`.
/// - [`SamplingError::Probability`], [`SamplingError::ProbabilitySum`], [`SamplingError::Vocab`].
///
/// # Precision
///
/// Sums are in `f64`, in the order of the ids.
///
/// # Example
///
/// ```
/// use llm_sampling::categorical;
/// use ndarray::array;
///
/// let p = array![0.5_f64, 0.0, 0.25, 0.25];
/// assert_eq!(categorical::inverse_cdf(&p, 0.0)?, 0);
/// assert_eq!(categorical::inverse_cdf(&p, 0.5)?, 2);
/// assert_eq!(categorical::inverse_cdf(&p, 0.75)?, 3);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn inverse_cdf<F: Float>(probabilities: &ArrayRef1<F>, u: f64) -> Result<u32, SamplingError> {
    check_uniform(u)?;
    let total = check_probabilities(probabilities)?;
    Ok(pick(probabilities.iter().map(|p| p.as_f64()), u * total) as u32)
}

/// Refuses what is no distribution, and gives the sum.
pub(crate) fn check_probabilities<F: Float>(
    probabilities: &ArrayRef1<F>,
) -> Result<f64, SamplingError> {
    rows::check_vocab(probabilities.len())?;
    let mut total = 0.0;
    for (token, p) in probabilities.iter().enumerate() {
        if !(p.is_finite() && *p >= F::zero()) {
            return Err(SamplingError::Probability {
                token,
                value: p.as_f64(),
            });
        }
        total += p.as_f64();
    }
    if !(total > 0.0 && total.is_finite()) {
        return Err(SamplingError::ProbabilitySum(total));
    }
    Ok(total)
}

/// Draws a token from the softmax of a row of logits.
///
/// ```text
/// p = softmax(x),   token = inverse_cdf(p, u),   log_probability = ln p_token
/// ```
///
/// # Shapes
///
/// - `logits`: `[vocab]`, any stride; `-inf` is masked out
///
/// # Errors
///
/// - [`SamplingError::Uniform`] if `u` is not in `[0, 1)`.
/// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`],
///   [`SamplingError::MaskedRow`], [`SamplingError::Vocab`]; they name row 0.
///
/// # Precision
///
/// `e^(x_i - max)` is computed in `F` and summed in `f64`. For `f32`, tokens more than 87
/// nats below the likeliest have probability 0.
///
/// # Example
///
/// ```
/// use llm_sampling::categorical;
/// use ndarray::array;
///
/// let logits = array![0.0_f64, 3_f64.ln()]; // probabilities 1/4, 3/4
/// let draw = categorical::draw(&logits, 0.3)?;
/// assert_eq!(draw.token, 1);
/// assert!((draw.log_probability - 0.75_f64.ln()).abs() < 1e-15);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn draw<F: Float>(logits: &ArrayRef1<F>, u: f64) -> Result<Draw, SamplingError> {
    check_uniform(u)?;
    rows::as_slice(logits, &mut Vec::new(), |row| {
        let mut candidates = Candidates::new();
        candidates.fill(row)?;
        draw_candidates(&mut candidates, u)
    })
}

/// [`draw`] from the candidates that processors have left.
///
/// # Errors
///
/// Those of [`draw`].
///
/// # Example
///
/// ```
/// use llm_sampling::{Candidates, categorical};
///
/// let mut candidates = Candidates::new();
/// candidates.fill(&[f64::NEG_INFINITY, 0.0, 3_f64.ln()])?;
/// candidates.compact();
/// assert_eq!(categorical::choose(&mut candidates, 0.3)?.token, 2);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn choose<F: Float>(candidates: &mut Candidates<F>, u: f64) -> Result<Draw, SamplingError> {
    check_uniform(u)?;
    draw_candidates(candidates, u)
}

pub(crate) fn check_uniform(u: f64) -> Result<(), SamplingError> {
    if !(0.0..1.0).contains(&u) {
        return Err(SamplingError::Uniform(u));
    }
    Ok(())
}

/// [`draw`] from what is left of a row, with a checked `u`.
pub(crate) fn draw_candidates<F: Float>(
    candidates: &mut Candidates<F>,
    u: f64,
) -> Result<Draw, SamplingError> {
    let (max, total) = candidates.weigh()?;
    let (logits, scratch) = candidates.with_scratch();
    let index = pick(scratch.values.iter().map(|w| w.as_f64()), u * total);
    let log_probability = logits[index].as_f64() - max.as_f64() - total.ln();
    Ok(Draw {
        token: candidates.id(index),
        log_probability,
    })
}

/// The first index at which the cumulative sum is above `target`; the last with weight if rounding left none.
pub(crate) fn pick(weights: impl Iterator<Item = f64>, target: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (token, weight) in weights.enumerate() {
        if weight > 0.0 {
            last = token;
            sum += weight;
            if sum > target {
                break;
            }
        }
    }
    last
}
