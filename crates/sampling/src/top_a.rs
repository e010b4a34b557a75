//! Top-a: tokens that are likely enough, by the square of the largest probability.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, rows};

/// Masks tokens whose probability is below a share of the square of the largest one.
///
/// ```text
/// p = softmax(x)
/// x_i <- -inf  where p_i < a (max_j p_j)^2
/// ```
///
/// Like min-p, but less is dropped where the model is unsure. At least `min_tokens_to_keep` tokens stay, the likeliest ones; of equals at
/// that edge, all. `a = 0` keeps everything.
///
/// # Order
///
/// llama.cpp does not have it. `KoboldCpp` runs it after top-k and before top-p, its temperature after these.
///
/// # Precision
///
/// The bound is turned into a logit, in `f64` from exponentials in `F`; a token whose probability is within `1e-6` of it (relatively, `f32`)
/// may fall on the other side.
///
/// # Example
///
/// ```
/// use llm_sampling::top_a::TopA;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// // Probabilities 0.5, 0.25, 0.125, 0.125: a bound of 0.8 · 0.25 = 0.2.
/// let mut logits = array![[0.0_f64, -1.0, -2.0, -2.0]] * 2_f64.ln();
/// let kept = logits[[0, 1]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &TopA::new(0.8, 1)?)?;
/// assert_eq!(logits, array![[0.0, kept, MASKED, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `sample_top_a` of `KoboldCpp`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopA {
    a: f64,
    min_tokens_to_keep: usize,
}

impl TopA {
    /// The filter; `min_tokens_to_keep` is usually 1.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::TopA`] if `a` is not in `[0, 1]`.
    /// - [`SamplingError::MinTokensToKeep`] if that is 0.
    pub fn new(a: f64, min_tokens_to_keep: usize) -> Result<Self, SamplingError> {
        if !(0.0..=1.0).contains(&a) {
            return Err(SamplingError::TopA(a));
        }
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
        Ok(Self {
            a,
            min_tokens_to_keep,
        })
    }
}

impl<F: Float> Processor<F> for TopA {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        let (max, total) = candidates.weigh()?;
        // p_i < a p_max^2 with p_i = e^(x_i - max) / total and p_max = 1 / total.
        let bound = max.as_f64() + (self.a / total).ln();
        candidates.keep_from(bound, self.min_tokens_to_keep);
        Ok(())
    }
}
