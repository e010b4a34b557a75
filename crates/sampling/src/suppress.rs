//! Tokens that may not come, ever or as the first.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError};

/// Masks tokens, always.
///
/// ```text
/// x_i <- -inf  for i in tokens
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
/// use llm_sampling::suppress::Suppress;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, 2.0]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &Suppress::new(vec![1]))?;
/// assert_eq!(logits, array![[1.0, f32::NEG_INFINITY]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `SuppressTokensLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppress(Vec<u32>);

impl Suppress {
    /// The processor.
    #[must_use]
    pub const fn new(tokens: Vec<u32>) -> Self {
        Self(tokens)
    }
}

impl<F: Float> Processor<F> for Suppress {
    /// # Errors
    ///
    /// None.
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        candidates.mask(&self.0);
        Ok(())
    }
}

/// Masks tokens at one position.
///
/// ```text
/// x_i <- -inf  for i in tokens,  when prompt + generated = begin_index
/// ```
///
/// With the length of the prompt as `begin_index` the first token that is made cannot be one of them. (Hugging Face's `generate` adds 1 for a
/// prompt of one token that a forced one follows.)
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::suppress::BeginSuppress;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, 2.0], [1.0, 2.0]];
/// let contexts = [Context::new(&[0, 0], &[]), Context::new(&[0, 0], &[0])];
/// processor::apply_inplace(&mut logits, &contexts, &BeginSuppress::new(vec![1], 2))?;
/// assert_eq!(logits, array![[1.0, f32::NEG_INFINITY], [1.0, 2.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `SuppressTokensAtBeginLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginSuppress {
    tokens: Vec<u32>,
    begin_index: usize,
}

impl BeginSuppress {
    /// The processor.
    #[must_use]
    pub const fn new(tokens: Vec<u32>, begin_index: usize) -> Self {
        Self {
            tokens,
            begin_index,
        }
    }
}

impl<F: Float> Processor<F> for BeginSuppress {
    /// # Errors
    ///
    /// None.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if context.len() == self.begin_index {
            candidates.mask(&self.tokens);
        }
        Ok(())
    }
}
