//! Classifier-free guidance: away from what the model says without the prompt.

use llm_numerics::Float;
use ndarray::{Array2, ArrayRef2};

use crate::{Candidates, SamplingError, rows};

/// What two distributions are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GuidanceSpace {
    /// Logits as they come: the batched form of Hugging Face, for models that were trained so.
    Logits,
    /// Log-probabilities, that is after a log-softmax of each: the paper, llama.cpp, the unbatched form of Hugging Face.
    LogProbabilities,
}

/// Goes from the unconditional logits towards the conditional ones, and beyond.
///
/// ```text
/// Logits:            y = u + scale (c - u)
/// LogProbabilities:  y = ln softmax(u) + scale (ln softmax(c) - ln softmax(u))
/// ```
///
/// A scale of 1 is the conditional model, 0 the unconditional one; above 1 the prompt counts for more. `unconditional` comes from the same model
/// without the prompt, or with one that says what is not wanted.
///
/// A token that is masked in `conditional` stays masked. Of one that is masked in `unconditional` only, there is nothing to compare: it keeps
/// its conditional value, where the formula would give infinity or NaN.
///
/// # Shapes
///
/// - `conditional`, `unconditional`: `[batch, vocab]`, any strides
/// - returns: `[batch, vocab]`
///
/// # Errors
///
/// - [`SamplingError::GuidanceScale`] if the scale is not finite.
/// - [`SamplingError::GuidanceShape`] if the shapes differ.
/// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::Vocab`]; with [`GuidanceSpace::LogProbabilities`]
///   [`SamplingError::MaskedRow`], too.
/// - [`SamplingError::GuidanceOverflow`] if a result is beyond the largest number.
///
/// # Precision
///
/// For the log-softmax `e^(x - max)` is computed in `F`, all else in `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::guidance::{self, GuidanceSpace};
/// use ndarray::array;
///
/// let conditional = array![[2.0_f32, 1.0]];
/// let unconditional = array![[1.0_f32, 1.5]];
/// let guided = guidance::guide(&conditional, &unconditional, 2.0, GuidanceSpace::Logits)?;
/// assert_eq!(guided, array![[3.0, 0.5]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Sanchez et al. 2023, arXiv:2306.17806v1 equation 7; `UnbatchedClassifierFreeGuidanceLogitsProcessor` and
/// `ClassifierFreeGuidanceLogitsProcessor` (which refuses a scale of 1 or less) of transformers 5.23.
pub fn guide<F: Float>(
    conditional: &ArrayRef2<F>,
    unconditional: &ArrayRef2<F>,
    scale: f64,
    space: GuidanceSpace,
) -> Result<Array2<F>, SamplingError> {
    if !scale.is_finite() {
        return Err(SamplingError::GuidanceScale(scale));
    }
    if conditional.dim() != unconditional.dim() {
        return Err(SamplingError::GuidanceShape {
            expected: conditional.dim(),
            got: unconditional.dim(),
        });
    }
    let mut guided = Array2::zeros(conditional.dim());
    let (mut c_row, mut u_row) = (Candidates::new(), Candidates::new());
    for (row, mut out) in guided.rows_mut().into_iter().enumerate() {
        let c_shift = take(&mut c_row, conditional, row, space)?;
        let u_shift = take(&mut u_row, unconditional, row, space)?;
        let pairs = c_row.logits().iter().zip(u_row.logits());
        for (token, (y, (c, u))) in out.iter_mut().zip(pairs).enumerate() {
            let (c, u) = (c.as_f64() - c_shift, u.as_f64() - u_shift);
            *y = F::from_f64(if c.is_finite() && u.is_finite() {
                u + scale * (c - u)
            } else {
                c
            });
            if c.is_finite() && !y.is_finite() {
                return Err(SamplingError::GuidanceOverflow { row, token });
            }
        }
    }
    Ok(guided)
}

/// Takes a row, and returns what is subtracted from each logit of it.
fn take<F: Float>(
    candidates: &mut Candidates<F>,
    logits: &ArrayRef2<F>,
    row: usize,
    space: GuidanceSpace,
) -> Result<f64, SamplingError> {
    let lane = logits.row(row);
    rows::as_slice(&lane, &mut Vec::new(), |slice| candidates.fill(slice))?;
    let shift = match space {
        GuidanceSpace::LogProbabilities => candidates
            .weigh()
            .map(|(max, total)| max.as_f64() + total.ln()),
        GuidanceSpace::Logits => match candidates.max() {
            Err(SamplingError::MaskedRow { .. }) => Ok(0.0),
            other => other.map(|_| 0.0),
        },
    };
    shift.map_err(|e| e.in_row(row))
}
