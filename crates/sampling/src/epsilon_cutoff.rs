//! Epsilon sampling: tokens of at least some probability.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, rows};

/// Masks tokens whose probability is below a bound.
///
/// ```text
/// p = softmax(x)
/// x_i <- -inf  where p_i < epsilon
/// ```
///
/// At least `min_tokens_to_keep` tokens stay, the likeliest ones; of equals at that edge, all.
///
/// # Precision
///
/// `e^(x_i - max)` is computed in `F` and summed in `f64`; what is compared with the logits is `max + ln(epsilon sum_j e^(x_j - max))`, in
/// `f64`. A token whose probability is within `1e-6` (relative, `f32`) of `epsilon` may fall on the other side than in a library that
/// compares probabilities.
///
/// # Example
///
/// ```
/// use llm_sampling::epsilon_cutoff::EpsilonCutoff;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// // Probabilities 0.5, 0.25, 0.125, 0.125.
/// let mut logits = array![[0.0_f64, -1.0, -2.0, -2.0]] * 2_f64.ln();
/// let kept = logits[[0, 1]];
/// let epsilon = EpsilonCutoff::new(0.2, 1)?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &epsilon)?;
/// assert_eq!(logits, array![[0.0, kept, MASKED, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Hewitt, Manning, Liang 2022, arXiv:2210.15191v1 §4; `EpsilonLogitsWarper` of transformers 5.23.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpsilonCutoff {
    epsilon: f64,
    min_tokens_to_keep: usize,
}

impl EpsilonCutoff {
    /// The filter; `min_tokens_to_keep` is usually 1, and the paper's `epsilon` between 3e-4 and 9e-4.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::EpsilonCutoff`] if `epsilon` is not in `(0, 1)`.
    /// - [`SamplingError::MinTokensToKeep`] if that is 0.
    pub fn new(epsilon: f64, min_tokens_to_keep: usize) -> Result<Self, SamplingError> {
        if !(epsilon > 0.0 && epsilon < 1.0) {
            return Err(SamplingError::EpsilonCutoff(epsilon));
        }
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
        Ok(Self {
            epsilon,
            min_tokens_to_keep,
        })
    }
}

impl<F: Float> Processor<F> for EpsilonCutoff {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        let (max, total) = candidates.weigh()?;
        keep(
            candidates,
            max,
            total,
            self.epsilon,
            self.min_tokens_to_keep,
        );
        Ok(())
    }
}

/// Keeps probabilities of at least `bound`; of a row without any, the likeliest and its equals.
pub(crate) fn keep<F: Float>(
    candidates: &mut Candidates<F>,
    max: F,
    total: f64,
    bound: f64,
    min_tokens_to_keep: usize,
) {
    let below_max = (bound * total).ln().min(0.0); // 0: only what equals the maximum
    candidates.keep_from(max.as_f64() + below_max, min_tokens_to_keep);
}
