//! Repetition penalty: tokens that occurred become less likely.

use llm_numerics::Float;

use crate::candidates::limited;
use crate::{Candidates, Context, Processor, SamplingError, Sources};

/// Which tokens count as having occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PenaltyWindow {
    /// Prompt and generated tokens: Hugging Face, vLLM (for the repetition penalty).
    All,
    /// Generated tokens only: OpenAI and vLLM (for presence and frequency).
    Generated,
    /// The last so many of prompt and generated tokens: llama.cpp (`penalty_last_n`), mistral.rs, candle.
    Last(usize),
    /// All but so many of the first tokens: Hugging Face's `prompt_ignore_length`.
    SkipFirst(usize),
}

impl PenaltyWindow {
    /// The tokens in the window, in order.
    pub fn tokens<'a>(self, context: &Context<'a>) -> impl Iterator<Item = u32> + Clone + 'a {
        let skip = match self {
            Self::All => 0,
            Self::Generated => context.prompt.len(),
            Self::Last(n) => context.len().saturating_sub(n),
            Self::SkipFirst(n) => n,
        };
        context.tokens().skip(skip)
    }
}

/// Divides positive logits of tokens that occurred by the penalty, and multiplies the others with it.
///
/// ```text
/// x_i <- x_i / penalty  where x_i > 0,   x_i penalty  else;   for each i in the window, once
/// ```
///
/// Above 1 a token that occurred becomes less likely, below 1 more. The sign of a logit has no meaning in a softmax, so this penalty is not
/// the same after a shift of all logits. Ids that the vocabulary does not have are passed over, as Hugging Face does since version 5.
///
/// # Precision
///
/// One operation in `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[3.0_f32, -2.0, 1.0]];
/// let context = Context::new(&[0, 1], &[1]); // token 1 occurred twice, and counts once
/// let penalty = RepetitionPenalty::new(2.0, PenaltyWindow::All)?;
/// processor::apply_inplace(&mut logits, &[context], &penalty)?;
/// assert_eq!(logits, array![[1.5, -4.0, 1.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Keskar et al. 2019, arXiv:1909.05858v2 §4.1; `RepetitionPenaltyLogitsProcessor` of transformers 5.23.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepetitionPenalty {
    penalty: f64,
    window: PenaltyWindow,
}

impl RepetitionPenalty {
    /// The processor; 1 changes nothing.
    ///
    /// # Errors
    ///
    /// [`SamplingError::RepetitionPenalty`] if the penalty is not finite and above 0.
    pub fn new(penalty: f64, window: PenaltyWindow) -> Result<Self, SamplingError> {
        if !(penalty > 0.0 && penalty.is_finite()) {
            return Err(SamplingError::RepetitionPenalty(penalty));
        }
        Ok(Self { penalty, window })
    }
}

impl<F: Float> Processor<F> for RepetitionPenalty {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`] if the logit of a token that occurred is NaN.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        penalize(candidates, self.window.tokens(context), self.penalty)
    }
}

/// Makes tokens of a source more likely: a [`RepetitionPenalty`] of `1 / penalty` on them.
///
/// ```text
/// x_i <- x_i penalty  where x_i > 0,   x_i / penalty  else;   for each i in the source, once
/// ```
///
/// For models that read a source and write a target: above 1, what was read is preferred, which keeps the target to the source.
///
/// # Precision
///
/// That of [`RepetitionPenalty`], with the reciprocal of the penalty rounded first, as Hugging Face does.
///
/// # Example
///
/// ```
/// use llm_sampling::repetition_penalty::EncoderRepetitionPenalty;
/// use llm_sampling::{Context, Sources, processor};
/// use ndarray::array;
///
/// let mut logits = array![[3.0_f32, -2.0, 1.0]];
/// let penalty = EncoderRepetitionPenalty::new(2.0, Sources::one(vec![0, 1]))?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[2], &[])], &penalty)?;
/// assert_eq!(logits, array![[6.0, -1.0, 1.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `EncoderRepetitionPenaltyLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderRepetitionPenalty {
    inverse: f64,
    sources: Sources,
}

impl EncoderRepetitionPenalty {
    /// The processor; 1 changes nothing.
    ///
    /// # Errors
    ///
    /// [`SamplingError::RepetitionPenalty`] if the penalty or its reciprocal is not finite and above 0.
    pub fn new(penalty: f64, sources: Sources) -> Result<Self, SamplingError> {
        let inverse = 1.0 / penalty;
        if !(penalty > 0.0 && penalty.is_finite() && inverse.is_finite()) {
            return Err(SamplingError::RepetitionPenalty(penalty));
        }
        Ok(Self { inverse, sources })
    }
}

impl<F: Float> Processor<F> for EncoderRepetitionPenalty {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`] if the logit of a token of the source is NaN; [`SamplingError::Source`].
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        let source = self.sources.of(context)?;
        penalize(candidates, source.iter().copied(), self.inverse)
    }
}

/// Penalizes each of the tokens once.
fn penalize<F: Float>(
    candidates: &mut Candidates<F>,
    tokens: impl Iterator<Item = u32>,
    penalty: f64,
) -> Result<(), SamplingError> {
    let mut seen = core::mem::take(&mut candidates.with_scratch().1.indices);
    seen.clear();
    seen.extend(tokens);
    seen.sort_unstable();
    seen.dedup();
    let mut nan = None;
    for &token in &seen {
        let Some(x) = candidates.get_mut(token) else {
            continue;
        };
        let before = x.as_f64();
        if before.is_nan() {
            nan = Some(token as usize);
            break;
        }
        let after = if before > 0.0 {
            before / penalty
        } else {
            before * penalty
        };
        *x = limited(after, before.is_finite());
    }
    candidates.with_scratch().1.indices = seen;
    match nan {
        Some(token) => Err(SamplingError::NanLogits { row: 0, token }),
        None => Ok(()),
    }
}
