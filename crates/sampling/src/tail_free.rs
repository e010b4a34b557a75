//! Tail-free sampling: the curve of sorted probabilities is cut where it has become straight.

use llm_numerics::Float;

use crate::top_k::{self, Ties};
use crate::{Candidates, Context, Processor, SamplingError, rows};

/// Masks the tokens after which the sorted probabilities bend no more.
///
/// ```text
/// p_1 >= p_2 >= .. >= p_n: the probabilities, equals by ascending id
/// b_i = |(p_i - p_(i+1)) - (p_(i+1) - p_(i+2))|,   i = 1..n-2
/// x of p_i <- -inf  for i >= k + 1,   k = the first i - 1 >= min_tokens_to_keep with b_1 + .. + b_i > z (b_1 + .. + b_(n-2))
/// ```
///
/// Where the sum of all bends is at most `1e-6`, each counts the same. Two tokens or fewer are left as they are. `z = 1` keeps everything.
/// Masked tokens are none: they have no place in the curve.
///
/// # Order
///
/// llama.cpp had it between top-k and the typical filter, before the temperature, and has removed it since. `KoboldCpp` has it still, in that
/// place.
///
/// # Precision
///
/// `e^(x_i - max)` is computed in `F`, the rest in `f64`. All tokens are sorted.
///
/// # Example
///
/// ```
/// use llm_sampling::tail_free::TailFree;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// // 0.6, 0.2, 0.1, 0.1: steps 0.4, 0.1, 0; bends 0.3, 0.1; shares 0.75, 1.
/// let mut logits = array![[0.6_f64.ln(), 0.2_f64.ln(), 0.1_f64.ln(), 0.1_f64.ln()]];
/// let kept = logits[[0, 0]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &TailFree::new(0.9, 1)?)?;
/// assert_eq!(logits, array![[kept, MASKED, MASKED, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Bricken 2019, "Tail Free Sampling"; `sample_tail_free` of `KoboldCpp`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailFree {
    z: f64,
    min_tokens_to_keep: usize,
}

impl TailFree {
    /// The filter; `min_tokens_to_keep` is usually 1.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::TailFree`] if `z` is not in `[0, 1]`.
    /// - [`SamplingError::MinTokensToKeep`] if that is 0.
    pub fn new(z: f64, min_tokens_to_keep: usize) -> Result<Self, SamplingError> {
        if !(0.0..=1.0).contains(&z) {
            return Err(SamplingError::TailFree(z));
        }
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
        Ok(Self {
            z,
            min_tokens_to_keep,
        })
    }

    /// How many of the sorted probabilities stay.
    fn count(&self, sorted: &[f64]) -> usize {
        let bend = |p: &[f64]| ((p[0] - p[1]) - (p[1] - p[2])).abs();
        let total: f64 = sorted.windows(3).map(bend).sum();
        let flat = total <= 1e-6;
        let bound = if flat {
            self.z * (sorted.len() - 2) as f64
        } else {
            self.z * total
        };
        let mut sum = 0.0;
        for (i, p) in sorted.windows(3).enumerate() {
            sum += if flat { 1.0 } else { bend(p) };
            if sum > bound && i >= self.min_tokens_to_keep {
                return i;
            }
        }
        sorted.len()
    }
}

impl<F: Float> Processor<F> for TailFree {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        if self.z == 1.0 {
            return candidates.max().map(|_| ());
        }
        let (_, total) = candidates.weigh()?;
        let (logits, scratch) = candidates.with_scratch();
        let sorted = &mut scratch.sums;
        sorted.clear();
        for (x, w) in logits.iter().zip(&scratch.values) {
            if *x > F::neg_infinity() {
                sorted.push(w.as_f64() / total);
            }
        }
        if sorted.len() <= 2 {
            return Ok(());
        }
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let count = self.count(sorted);
        top_k::mask(logits, count, Ties::Exact, scratch);
        candidates.compact();
        Ok(())
    }
}
