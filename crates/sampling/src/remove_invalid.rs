//! Finite numbers in the place of NaN and infinities.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError};

/// Replaces NaN by 0, and infinities by the largest and the lowest finite number.
///
/// ```text
/// NaN -> 0,   inf -> largest,   -inf -> -largest
/// ```
///
/// This hides a broken model: NaN becomes a choice like any other. It is here because chains of Hugging Face have it. Tokens that were masked
/// come back with a finite logit, which is why later filters can choose them if nothing else is left.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::remove_invalid::RemoveInvalid;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &RemoveInvalid)?;
/// assert_eq!(logits, array![[0.0, f32::MAX, f32::MIN, 1.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `InfNanRemoveLogitsProcessor` of transformers 5.23 (`remove_invalid_values`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveInvalid;

impl<F: Float> Processor<F> for RemoveInvalid {
    /// # Errors
    ///
    /// None.
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        candidates.make_dense();
        for x in candidates.logits_mut() {
            if x.is_nan() {
                *x = F::zero();
            } else {
                *x = x.min(F::max_value()).max(F::min_value());
            }
        }
        Ok(())
    }
}
