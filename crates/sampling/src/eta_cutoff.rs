//! Eta sampling: a bound on probabilities that falls where the distribution is flat.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, epsilon_cutoff, rows};

/// Masks tokens whose probability is below a bound that depends on the entropy.
///
/// ```text
/// p = softmax(x),   H = -sum_j p_j ln p_j
/// x_i <- -inf  where p_i < min(epsilon, sqrt(epsilon) e^-H)
/// ```
///
/// At least `min_tokens_to_keep` tokens stay, the likeliest ones; of equals at that edge, all.
///
/// # Precision
///
/// That of [`EpsilonCutoff`](crate::epsilon_cutoff::EpsilonCutoff); the entropy is a sum in `f64`.
///
/// # Example
///
/// ```
/// use llm_sampling::eta_cutoff::EtaCutoff;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// // Probabilities 0.5, 0.25, 0.125, 0.125; e^H = 2^1.75 = 3.36, so the bound is min(0.16, 0.4 / 3.36) = 0.119.
/// let mut logits = array![[0.0_f64, -1.0, -2.0, -2.0]] * 2_f64.ln();
/// let before = logits.clone();
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &EtaCutoff::new(0.16, 1)?)?;
/// assert_eq!(logits, before);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Hewitt, Manning, Liang 2022, arXiv:2210.15191v1 §4; `EtaLogitsWarper` of transformers 5.23.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EtaCutoff {
    epsilon: f64,
    min_tokens_to_keep: usize,
}

impl EtaCutoff {
    /// The filter; `min_tokens_to_keep` is usually 1, and the paper's `epsilon` between 3e-4 and 4e-3.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::EtaCutoff`] if `epsilon` is not in `(0, 1)`.
    /// - [`SamplingError::MinTokensToKeep`] if that is 0.
    pub fn new(epsilon: f64, min_tokens_to_keep: usize) -> Result<Self, SamplingError> {
        if !(epsilon > 0.0 && epsilon < 1.0) {
            return Err(SamplingError::EtaCutoff(epsilon));
        }
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
        Ok(Self {
            epsilon,
            min_tokens_to_keep,
        })
    }
}

impl<F: Float> Processor<F> for EtaCutoff {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        let (max, total) = candidates.weigh()?;
        let entropy = candidates.entropy(max, total);
        let eta = self.epsilon.min(self.epsilon.sqrt() * (-entropy).exp());
        epsilon_cutoff::keep(candidates, max, total, eta, self.min_tokens_to_keep);
        Ok(())
    }
}
