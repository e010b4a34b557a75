//! Tokens that must come: the first and the last.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError};

/// Leaves one token after the first one.
///
/// ```text
/// when prompt + generated = 1:   x_i <- 0 for i = token, -inf else
/// ```
///
/// For models whose prompt is one token, after which the language or the start of the text comes. The token comes even if it was masked.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::forced_tokens::ForcedBos;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, 2.0], [1.0, 2.0]];
/// let contexts = [Context::new(&[0], &[]), Context::new(&[0], &[0])];
/// processor::apply_inplace(&mut logits, &contexts, &ForcedBos::new(0))?;
/// assert_eq!(logits, array![[0.0, f32::NEG_INFINITY], [1.0, 2.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `ForcedBOSTokenLogitsProcessor` of transformers 5.23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForcedBos {
    token: u32,
}

impl ForcedBos {
    /// The processor.
    #[must_use]
    pub const fn new(token: u32) -> Self {
        Self { token }
    }
}

impl<F: Float> Processor<F> for ForcedBos {
    /// # Errors
    ///
    /// [`SamplingError::TokenId`], when it acts.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if context.len() == 1 {
            candidates.check_tokens(&[self.token])?;
            candidates.force(&[self.token]);
        }
        Ok(())
    }
}

/// Leaves the end tokens where there is room for one token.
///
/// ```text
/// when prompt + generated = max_length - 1:   x_i <- 0 for i in stop_ids, -inf else
/// ```
///
/// The tokens come even if they were masked; of several, each is as likely as the others.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::forced_tokens::ForcedEos;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, 2.0], [1.0, 2.0]];
/// let contexts = [Context::new(&[0, 0], &[]), Context::new(&[0, 0], &[0])];
/// processor::apply_inplace(&mut logits, &contexts, &ForcedEos::new(4, vec![0]))?;
/// assert_eq!(logits, array![[1.0, 2.0], [0.0, f32::NEG_INFINITY]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `ForcedEOSTokenLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForcedEos {
    max_length: usize,
    stop_ids: Vec<u32>,
}

impl ForcedEos {
    /// The processor; `max_length` counts the prompt and the end token.
    #[must_use]
    pub const fn new(max_length: usize, stop_ids: Vec<u32>) -> Self {
        Self {
            max_length,
            stop_ids,
        }
    }
}

impl<F: Float> Processor<F> for ForcedEos {
    /// # Errors
    ///
    /// When it acts: [`SamplingError::TokenId`], and [`SamplingError::NoAllowedTokens`] without `stop_ids`.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if Some(context.len()) == self.max_length.checked_sub(1) {
            if self.stop_ids.is_empty() {
                return Err(SamplingError::NoAllowedTokens { row: 0 });
            }
            candidates.check_tokens(&self.stop_ids)?;
            candidates.force(&self.stop_ids);
        }
        Ok(())
    }
}
