//! An end that becomes likelier with each token.

use llm_numerics::Float;

use crate::candidates::limited;
use crate::{Candidates, Context, Processor, SamplingError};

/// Raises the logits of the end tokens more and more.
///
/// ```text
/// n = generated - start
/// x_i <- x_i + |x_i| (factor^n - 1)  for i in stop_ids,  while n > 0
/// ```
///
/// A factor above 1 ends sequences that grow too long, one below 1 draws them out. Logits that are not finite are left alone, so an end token
/// that is masked stays so. As with the repetition penalty, a shift of all logits makes a difference.
///
/// # Precision
///
/// Computed in `f64` and rounded once. A sum beyond the largest finite number becomes that number, where Hugging Face has infinity: then the end
/// comes for sure in both.
///
/// # Example
///
/// ```
/// use llm_sampling::exponential_decay_length::ExponentialDecayLength;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, -2.0]];
/// let decay = ExponentialDecayLength::new(1, 2.0, vec![1])?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[0], &[0, 0, 0])], &decay)?;
/// assert_eq!(logits, array![[1.0, 4.0]]); // -2 + 2 (2^2 - 1)
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `ExponentialDecayLengthPenalty` of transformers 5.23 (`exponential_decay_length_penalty`).
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialDecayLength {
    start: usize,
    factor: f64,
    stop_ids: Vec<u32>,
}

impl ExponentialDecayLength {
    /// The processor; a factor of 1 changes nothing.
    ///
    /// # Errors
    ///
    /// [`SamplingError::LengthFactor`] if the factor is not finite and above 0.
    pub fn new(start: usize, factor: f64, stop_ids: Vec<u32>) -> Result<Self, SamplingError> {
        if !(factor > 0.0 && factor.is_finite()) {
            return Err(SamplingError::LengthFactor(factor));
        }
        let mut stop_ids = stop_ids;
        stop_ids.sort_unstable();
        stop_ids.dedup();
        Ok(Self {
            start,
            factor,
            stop_ids,
        })
    }
}

impl<F: Float> Processor<F> for ExponentialDecayLength {
    /// # Errors
    ///
    /// [`SamplingError::TokenId`], when it acts.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if context.generated.len() <= self.start {
            return Ok(());
        }
        candidates.check_tokens(&self.stop_ids)?;
        let n = context.generated.len() - self.start;
        let growth = self.factor.powf(n as f64) - 1.0; // perhaps infinite
        for &token in &self.stop_ids {
            let Some(x) = candidates.get_mut(token) else {
                continue;
            };
            if x.is_finite() && *x != F::zero() {
                *x = limited(x.as_f64() + x.as_f64().abs() * growth, true);
            }
        }
        Ok(())
    }
}
