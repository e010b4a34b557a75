//! Presence and frequency penalties: what is taken off the logits of tokens that occurred.

use llm_numerics::Float;

use crate::candidates::limited;
use crate::repetition_penalty::PenaltyWindow;
use crate::{Candidates, Context, Processor, SamplingError};

/// Lowers the logit of each token that occurred, once for its presence and once for each time.
///
/// ```text
/// x_i <- x_i - (count_i frequency + presence)   for each i in the window
/// ```
///
/// Infinite logits stay as they are, however large a penalty is: what is masked stays masked.
///
/// Negative penalties make tokens likelier that occurred. Unlike the repetition penalty, the result is the same after a shift of all
/// logits. Libraries differ in the window: OpenAI and vLLM count generated tokens only ([`PenaltyWindow::Generated`]), llama.cpp the last 64
/// tokens, the prompt included ([`PenaltyWindow::Last`]). Ids that the vocabulary does not have are passed over.
///
/// # Order
///
/// First in llama.cpp's default chain, after the logit bias and long before the temperature; there the repetition penalty goes first, on the
/// same window. In vLLM after the logit bias and the repetition penalty, before the temperature.
///
/// # Precision
///
/// In `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::presence_frequency::PresenceFrequency;
/// use llm_sampling::repetition_penalty::PenaltyWindow;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[3.0_f32, -2.0, 1.0]];
/// let context = Context::new(&[0], &[1, 1]); // token 0 is of the prompt
/// let penalty = PresenceFrequency::new(0.5, 0.25, PenaltyWindow::Generated)?;
/// processor::apply_inplace(&mut logits, &[context], &penalty)?;
/// assert_eq!(logits, array![[3.0, -3.0, 1.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: OpenAI, API reference of chat completions, `presence_penalty` and `frequency_penalty`; `llama_sampler_penalties` of llama.cpp
/// (llama-cpp-python 0.3.36).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PresenceFrequency {
    presence: f64,
    frequency: f64,
    window: PenaltyWindow,
}

impl PresenceFrequency {
    /// The processor; two zeros change nothing. OpenAI allows -2 to 2.
    ///
    /// # Errors
    ///
    /// [`SamplingError::PresencePenalty`], [`SamplingError::FrequencyPenalty`] if one is not finite.
    pub fn new(
        presence: f64,
        frequency: f64,
        window: PenaltyWindow,
    ) -> Result<Self, SamplingError> {
        if !presence.is_finite() {
            return Err(SamplingError::PresencePenalty(presence));
        }
        if !frequency.is_finite() {
            return Err(SamplingError::FrequencyPenalty(frequency));
        }
        Ok(Self {
            presence,
            frequency,
            window,
        })
    }
}

impl<F: Float> Processor<F> for PresenceFrequency {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`] if the logit of a token that occurred is NaN.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        let mut seen = core::mem::take(&mut candidates.with_scratch().1.indices);
        seen.clear();
        seen.extend(self.window.tokens(context));
        seen.sort_unstable();
        let mut result = Ok(());
        for same in seen.chunk_by(|a, b| a == b) {
            let Some(x) = candidates.get_mut(same[0]) else {
                continue;
            };
            if x.is_nan() {
                result = Err(SamplingError::NanLogits {
                    row: 0,
                    token: same[0] as usize,
                });
                break;
            }
            if x.is_infinite() {
                continue; // the penalty may be infinite too
            }
            let penalty = same.len() as f64 * self.frequency + self.presence;
            *x = limited(x.as_f64() - penalty, penalty.is_finite());
        }
        candidates.with_scratch().1.indices = seen;
        result
    }
}
