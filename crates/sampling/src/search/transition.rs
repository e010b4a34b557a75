//! The log-probabilities of tokens that were chosen.

use llm_numerics::{Float, softmax};
use ndarray::{Array2, ArrayRef2, ArrayRef3, Axis};

use crate::{SamplingError, rows};

/// The log-probability of each token under the logits of its step.
///
/// ```text
/// y_(r,t) = x_(r,t,i) - ln sum_j e^(x_(r,t,j))   with i the token at step t of row r
/// ```
///
/// What a hypothesis adds up if no processor ran: so its sum can be checked, and sequences compared that other searches found.
///
/// # Shapes
///
/// - `logits`: `[batch, seq, vocab]`, any strides: those that the tokens were chosen from
/// - `tokens`: `[batch, seq]`, any strides
/// - returns: `[batch, seq]`
///
/// # Errors
///
/// - [`SamplingError::TransitionShape`] if the first two axes differ.
/// - [`SamplingError::TransitionToken`] for a token that the vocabulary does not have.
/// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], [`SamplingError::Vocab`]; the row is
///   `batch index * seq + step`.
///
/// # Precision
///
/// That of [`log_sum_exp`](softmax::log_sum_exp).
///
/// # Example
///
/// ```
/// use llm_sampling::search::transition;
/// use ndarray::array;
///
/// let logits = array![[[0.0_f64, 3_f64.ln()], [0.0, 0.0]]]; // 1/4, 3/4; 1/2, 1/2
/// let y = transition::log_probabilities(&logits, &array![[1, 0]])?;
/// assert!((y[[0, 0]] - 0.75_f64.ln()).abs() < 1e-15);
/// assert!((y[[0, 1]] - 0.5_f64.ln()).abs() < 1e-15);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `GenerationMixin.compute_transition_scores` of transformers 5.23, with `normalize_logits`.
pub fn log_probabilities<F: Float>(
    logits: &ArrayRef3<F>,
    tokens: &ArrayRef2<u32>,
) -> Result<Array2<F>, SamplingError> {
    let (batch, seq, vocab) = logits.dim();
    if tokens.dim() != (batch, seq) {
        return Err(SamplingError::TransitionShape {
            expected: [batch, seq],
            got: tokens.dim().into(),
        });
    }
    let mut out = Array2::zeros((batch, seq));
    let mut row = Vec::new();
    for ((i, step), &token) in tokens.indexed_iter() {
        let lane = logits.index_axis(Axis(0), i);
        row.clear();
        row.extend(lane.index_axis(Axis(0), step).iter().copied());
        let max = rows::finite_max(&row).map_err(|e| e.in_row(i * seq + step))?;
        let Some(&x) = row.get(token as usize) else {
            return Err(SamplingError::TransitionToken {
                row: i * seq + step,
                token,
                vocab,
            });
        };
        // Relative to the maximum: that may be large, and the rest is at most ln n.
        row.iter_mut().for_each(|x| *x -= max);
        out[[i, step]] = (x - max) - softmax::log_sum_exp(&row);
    }
    Ok(out)
}
