//! XTC, "exclude top choices": now and then the likeliest tokens go, all but the last of them.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, rows};

/// With some probability, masks all tokens that are likely enough but the least likely of them.
///
/// ```text
/// p = softmax(x),   L = { i : p_i >= threshold }
/// where u < probability and |L| >= 2:  x_i <- -inf  for all i in L but the least likely; of equals the highest id stays
/// ```
///
/// `u` is number 1 of the step: [`context.random.uniform(1)`](crate::RowRandom::uniform), so number 0 is free to draw the token with. A
/// probability of 1 always does it, as `u` is below 1. Nothing happens where fewer than `min_tokens_to_keep` tokens would stay. A threshold
/// above 0.5 is never reached by two tokens; llama.cpp calls that "off", too.
///
/// llama.cpp draws from its own generator and asks `u <= probability`; of equals an arbitrary one stays. text-generation-webui does nothing
/// where a line break or the end of the text would be dropped, which here is for the caller to ask.
///
/// # Order
///
/// After min-p and before the temperature in llama.cpp's default chain.
///
/// # Precision
///
/// `e^(x_i - max)` is computed in `F` and summed in `f64`; a token within `1e-6` of the threshold (relatively, `f32`) may fall on the other
/// side.
///
/// # Example
///
/// ```
/// use llm_sampling::xtc::Xtc;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// // Probabilities 0.5, 0.25, 0.125, 0.125.
/// let mut logits = array![[0.0_f64, -1.0, -2.0, -2.0]] * 2_f64.ln();
/// let kept = (logits[[0, 1]], logits[[0, 2]]);
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &Xtc::new(1.0, 0.2, 1)?)?;
/// assert_eq!(logits, array![[MASKED, kept.0, kept.1, kept.1]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: text-generation-webui, pull request 6335; `llama_sampler_xtc` of llama.cpp (llama-cpp-python 0.3.36).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xtc {
    probability: f64,
    threshold: f64,
    min_tokens_to_keep: usize,
}

/// Which number of the step decides.
const DRAW: u16 = 1;

impl Xtc {
    /// The filter; a threshold of 0.1 is usual, and `min_tokens_to_keep` of 1.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::XtcProbability`], [`SamplingError::XtcThreshold`] if one is not in `[0, 1]`.
    /// - [`SamplingError::MinTokensToKeep`] if that is 0.
    pub fn new(
        probability: f64,
        threshold: f64,
        min_tokens_to_keep: usize,
    ) -> Result<Self, SamplingError> {
        if !(0.0..=1.0).contains(&probability) {
            return Err(SamplingError::XtcProbability(probability));
        }
        if !(0.0..=1.0).contains(&threshold) {
            return Err(SamplingError::XtcThreshold(threshold));
        }
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
        Ok(Self {
            probability,
            threshold,
            min_tokens_to_keep,
        })
    }
}

impl<F: Float> Processor<F> for Xtc {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], whatever `u` is.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if context.random.uniform(DRAW) >= self.probability {
            return candidates.max().map(|_| ());
        }
        let (_, total) = candidates.weigh()?;
        let (logits, scratch) = candidates.with_scratch();
        let bound = self.threshold * total;
        let is_likely = |x: F, w: F| x > F::neg_infinity() && w.as_f64() >= bound;
        let (mut available, mut likely, mut least) = (0_usize, 0_usize, None);
        for (i, (&x, &w)) in logits.iter().zip(&scratch.values).enumerate() {
            available += usize::from(x > F::neg_infinity());
            if is_likely(x, w) {
                likely += 1;
                if least.is_none_or(|j: usize| x <= logits[j]) {
                    least = Some(i);
                }
            }
        }
        if likely < 2 || available - (likely - 1) < self.min_tokens_to_keep {
            return Ok(());
        }
        for (i, (x, &w)) in logits.iter_mut().zip(&scratch.values).enumerate() {
            if is_likely(*x, w) && Some(i) != least {
                *x = F::neg_infinity();
            }
        }
        candidates.compact();
        Ok(())
    }
}
