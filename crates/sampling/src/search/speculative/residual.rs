//! The rule of speculative sampling on probabilities.

use llm_numerics::Float;
use ndarray::{Array1, ArrayRef1};

use super::axis;
use crate::{SamplingError, categorical};

/// With which probability each token is accepted, if it is drafted.
///
/// ```text
/// a(x) = min(1, p(x) / q(x));  1 where q(x) = 0, which is never drafted
/// ```
///
/// # Shapes
///
/// - `target_probs` (`p`), `draft_probs` (`q`): `[vocab]`; each sums to 1
/// - returns: `[vocab]`
///
/// # Errors
///
/// [`SamplingError::Axis`], [`SamplingError::Vocab`], [`SamplingError::Probability`], [`SamplingError::ProbabilitySum`].
///
/// # Precision
///
/// In `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::search::speculative;
/// use ndarray::array;
///
/// let (p, q) = (array![0.5_f64, 0.25, 0.25], array![0.25, 0.5, 0.25]);
/// assert_eq!(speculative::accept_probabilities(&p, &q)?, array![1.0, 0.5, 1.0]);
/// assert_eq!(speculative::accept_rate(&p, &q)?, 0.75);
/// assert_eq!(speculative::residual(&p, &q)?, array![1.0, 0.0, 0.0]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Leviathan, Kalman, Matias 2022, arXiv:2211.17192v2 §2.3.
pub fn accept_probabilities<F: Float>(
    target_probs: &ArrayRef1<F>,
    draft_probs: &ArrayRef1<F>,
) -> Result<Array1<F>, SamplingError> {
    check(target_probs, draft_probs)?;
    let pairs = target_probs.iter().zip(draft_probs);
    Ok(pairs
        .map(|(p, q)| {
            if p >= q {
                F::one()
            } else {
                F::from_f64(p.as_f64() / q.as_f64())
            }
        })
        .collect())
}

/// With which probability a token drawn from `q` is accepted: one minus the total variation distance.
///
/// ```text
/// sum_x min(p(x), q(x))
/// ```
///
/// # Shapes
///
/// - `target_probs` (`p`), `draft_probs` (`q`): `[vocab]`; each sums to 1
///
/// # Errors
///
/// As [`accept_probabilities`].
///
/// # Precision
///
/// Summed in `f64`.
///
/// # Example
///
/// See [`accept_probabilities`].
///
/// Source: Leviathan, Kalman, Matias 2022, arXiv:2211.17192v2, theorem 3.5.
pub fn accept_rate<F: Float>(
    target_probs: &ArrayRef1<F>,
    draft_probs: &ArrayRef1<F>,
) -> Result<f64, SamplingError> {
    check(target_probs, draft_probs)?;
    let pairs = target_probs.iter().zip(draft_probs);
    Ok(pairs.map(|(p, q)| p.as_f64().min(q.as_f64())).sum())
}

/// What a token is drawn from where a drafted one was rejected.
///
/// ```text
/// r(x) = max(p(x) - q(x), 0) / sum_y max(p(y) - q(y), 0)
/// ```
///
/// Where `p = q` nothing is ever rejected, and `p` is returned.
///
/// # Shapes
///
/// - `target_probs` (`p`), `draft_probs` (`q`): `[vocab]`; each sums to 1
/// - returns: `[vocab]`, sums to 1
///
/// # Errors
///
/// As [`accept_probabilities`].
///
/// # Precision
///
/// In `f64`, rounded once; differences of `f32` values are exact there.
///
/// # Example
///
/// See [`accept_probabilities`].
///
/// Source: Leviathan, Kalman, Matias 2022, arXiv:2211.17192v2 §2.3.
pub fn residual<F: Float>(
    target_probs: &ArrayRef1<F>,
    draft_probs: &ArrayRef1<F>,
) -> Result<Array1<F>, SamplingError> {
    check(target_probs, draft_probs)?;
    let mut excess: Vec<f64> = target_probs.iter().map(|p| p.as_f64()).collect();
    let q: Vec<f64> = draft_probs.iter().map(|q| q.as_f64()).collect();
    take_excess(&mut excess, &q);
    let total: f64 = excess.iter().sum();
    if total == 0.0 {
        return Ok(target_probs.to_owned());
    }
    Ok(excess.iter().map(|x| F::from_f64(x / total)).collect())
}

/// `p <- max(p - q, 0)`
pub(super) fn take_excess(p: &mut [f64], q: &[f64]) {
    for (p, q) in p.iter_mut().zip(q) {
        *p = (*p - q).max(0.0);
    }
}

/// The token whose slice of the cumulative sum contains `u`; none if all weights are 0.
pub(super) fn pick(weights: &[f64], u: f64) -> Option<u32> {
    let total: f64 = weights.iter().sum();
    (total > 0.0).then(|| categorical::pick(weights.iter().copied(), u * total) as u32) // vocab is at most 2^32
}

fn check<F: Float>(p: &ArrayRef1<F>, q: &ArrayRef1<F>) -> Result<(), SamplingError> {
    axis("draft_probs", "vocab", p.len(), q.len())?;
    categorical::check_probabilities(p)?;
    categorical::check_probabilities(q)?;
    Ok(())
}
