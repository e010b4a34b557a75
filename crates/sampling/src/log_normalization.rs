//! Log-softmax of what is left, as the last processor.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError};

/// Replaces logits by the logarithms of their probabilities.
///
/// ```text
/// x_i <- x_i - ln sum_j e^(x_j)
/// ```
///
/// The distribution stays the same. Beam search adds such numbers up, and after a filter they no longer sum to 1 without this.
///
/// # Precision
///
/// `e^(x_j - max)` is computed in `F`, the rest in `f64`, rounded once: for `f32` an absolute error below `1e-6`, and half a unit in the last
/// place.
///
/// # Example
///
/// ```
/// use llm_sampling::log_normalization::LogNormalization;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[7.0_f32, 7.0, f32::NEG_INFINITY]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &LogNormalization)?;
/// assert_eq!(logits, array![[0.5_f32.ln(), 0.5_f32.ln(), f32::NEG_INFINITY]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `LogitNormalization` of transformers 5.23.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogNormalization;

impl<F: Float> Processor<F> for LogNormalization {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        let (max, total) = candidates.weigh()?;
        let log_total = total.ln();
        for x in candidates.logits_mut() {
            *x = F::from_f64(x.as_f64() - max.as_f64() - log_total);
        }
        Ok(())
    }
}
