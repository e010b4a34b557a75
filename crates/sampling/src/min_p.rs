//! Min-p: tokens that are likely enough beside the likeliest.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, rows};

/// Masks tokens whose probability is below a share of the largest one.
///
/// ```text
/// p = softmax(x)
/// x_i <- -inf  where p_i < min_p max_j p_j, that is x_i < max_j x_j + ln min_p
/// ```
///
/// At least `min_tokens_to_keep` tokens stay, the likeliest ones; of equals at that edge, all (see [`Ties`](crate::top_k::Ties)).
/// `min_p = 0` keeps everything, 1 only the likeliest and its equals.
///
/// # Precision
///
/// The bound is computed in `f64` and compared with the logits: no probability is computed. A token within `1e-7` (relative, `f32`) of the
/// bound may fall on the other side than in a library that compares probabilities.
///
/// # Example
///
/// ```
/// use llm_sampling::min_p::MinP;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// // Probabilities 0.5, 0.25, 0.125, 0.125: a bound of 0.2.
/// let mut logits = array![[0.0_f64, -1.0, -2.0, -2.0]] * 2_f64.ln();
/// let kept = logits[[0, 1]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &MinP::new(0.4, 1)?)?;
/// assert_eq!(logits, array![[0.0, kept, MASKED, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Nguyen et al. 2024, arXiv:2407.01082v4; `MinPLogitsWarper` of transformers 5.23; `llama_sampler_min_p` of llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinP {
    min_p: f64,
    min_tokens_to_keep: usize,
}

impl MinP {
    /// The filter; `min_tokens_to_keep` is usually 1.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::MinP`] if `min_p` is not in `[0, 1]`.
    /// - [`SamplingError::MinTokensToKeep`] if that is 0.
    pub fn new(min_p: f64, min_tokens_to_keep: usize) -> Result<Self, SamplingError> {
        if !(0.0..=1.0).contains(&min_p) {
            return Err(SamplingError::MinP(min_p));
        }
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
        Ok(Self {
            min_p,
            min_tokens_to_keep,
        })
    }
}

impl<F: Float> Processor<F> for MinP {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        let max = candidates.max()?;
        let bound = max.as_f64() + self.min_p.ln();
        candidates.keep_from(bound, self.min_tokens_to_keep);
        Ok(())
    }
}
