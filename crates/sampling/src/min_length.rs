//! No end before a sequence is long enough.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError};

/// Masks the end tokens while prompt and generated tokens are fewer than `min_length`.
///
/// ```text
/// x_i <- -inf  for i in stop_ids,  while prompt + generated < min_length
/// ```
///
/// Ids that the vocabulary does not have are passed over.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::min_length::MinLength;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, 2.0], [1.0, 2.0]];
/// let contexts = [Context::new(&[0, 0], &[]), Context::new(&[0, 0], &[0])];
/// processor::apply_inplace(&mut logits, &contexts, &MinLength::new(3, vec![1]))?;
/// assert_eq!(logits, array![[1.0, f32::NEG_INFINITY], [1.0, 2.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `MinLengthLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinLength {
    min_length: usize,
    stop_ids: Vec<u32>,
}

impl MinLength {
    /// The processor; 0 changes nothing.
    #[must_use]
    pub const fn new(min_length: usize, stop_ids: Vec<u32>) -> Self {
        Self {
            min_length,
            stop_ids,
        }
    }
}

impl<F: Float> Processor<F> for MinLength {
    /// # Errors
    ///
    /// None.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if context.len() < self.min_length {
            candidates.mask(&self.stop_ids);
        }
        Ok(())
    }
}

/// Masks the end tokens while the generated tokens are fewer than `min_new_tokens`.
///
/// ```text
/// x_i <- -inf  for i in stop_ids,  while generated < min_new_tokens
/// ```
///
/// [`MinLength`] without the prompt.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::min_length::MinNewTokens;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, 2.0], [1.0, 2.0]];
/// let contexts = [Context::new(&[0, 0], &[]), Context::new(&[0, 0], &[0])];
/// processor::apply_inplace(&mut logits, &contexts, &MinNewTokens::new(1, vec![1]))?;
/// assert_eq!(logits, array![[1.0, f32::NEG_INFINITY], [1.0, 2.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `MinNewTokensLengthLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinNewTokens {
    min_new_tokens: usize,
    stop_ids: Vec<u32>,
}

impl MinNewTokens {
    /// The processor; 0 changes nothing.
    #[must_use]
    pub const fn new(min_new_tokens: usize, stop_ids: Vec<u32>) -> Self {
        Self {
            min_new_tokens,
            stop_ids,
        }
    }
}

impl<F: Float> Processor<F> for MinNewTokens {
    /// # Errors
    ///
    /// None.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if context.generated.len() < self.min_new_tokens {
            candidates.mask(&self.stop_ids);
        }
        Ok(())
    }
}
