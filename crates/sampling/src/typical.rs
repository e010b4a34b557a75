//! Typical sampling: tokens about as surprising as the distribution is on average.

use core::cmp::Ordering;

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, rows};

/// Masks all but the tokens whose surprise is nearest to the entropy, as many as have enough probability.
///
/// ```text
/// p = softmax(x),   H = -sum_j p_j ln p_j,   d_i = |-ln p_i - H|
/// x_i <- -inf  where d_i > t,   t the smallest d with  sum { p_j : d_j <= t } >= typical_p
/// ```
///
/// The likeliest token may be masked: it can be *less* surprising than is typical. At least `min_tokens_to_keep` tokens stay, those with the
/// smallest `d`; of equals at either edge, all. `typical_p = 1` keeps everything.
///
/// # Precision
///
/// `e^(x_i - max)` is computed in `F`, sums and `d` in `f64`: a token is kept or dropped rightly unless a sum of probabilities is within
/// `1e-6` (`f32`) of `typical_p`.
///
/// # Example
///
/// ```
/// use llm_sampling::typical::Typical;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// // Probabilities 1/2 and four times 1/8: H = 2 ln 2, the surprise of a probability of 1/4.
/// // Both lie ln 2 away from it, so add a token: 1/2, 1/4, 1/8, 1/8, H = 1.75 ln 2.
/// let mut logits = array![[0.0_f64, -1.0, -2.0, -2.0]] * 2_f64.ln();
/// let kept = logits[[0, 1]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &Typical::new(0.2, 1)?)?;
/// assert_eq!(logits, array![[MASKED, kept, MASKED, MASKED]]); // d = 0.75, 0.25, 1.25, 1.25 times ln 2
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Meister et al. 2022, arXiv:2202.00666v5 §4; `TypicalLogitsWarper` of transformers 5.23.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Typical {
    typical_p: f64,
    min_tokens_to_keep: usize,
}

impl Typical {
    /// The filter; `min_tokens_to_keep` is usually 1.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::TypicalP`] if `typical_p` is not in `(0, 1]`. (Hugging Face refuses 1, too.)
    /// - [`SamplingError::MinTokensToKeep`] if that is 0.
    pub fn new(typical_p: f64, min_tokens_to_keep: usize) -> Result<Self, SamplingError> {
        if !(typical_p > 0.0 && typical_p <= 1.0) {
            return Err(SamplingError::TypicalP(typical_p));
        }
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
        Ok(Self {
            typical_p,
            min_tokens_to_keep,
        })
    }
}

impl<F: Float> Processor<F> for Typical {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        if self.typical_p == 1.0 {
            return candidates.max().map(|_| ());
        }
        let (max, total) = candidates.weigh()?;
        let expected = total.ln() - candidates.entropy(max, total);
        let (logits, scratch) = candidates.with_scratch();
        scratch.sums.clear();
        scratch.indices.clear();
        for (i, x) in logits.iter().enumerate() {
            scratch
                .sums
                .push((max.as_f64() - x.as_f64() + expected).abs());
            if *x > F::neg_infinity() {
                scratch.indices.push(i as u32); // vocab is at most 2^32
            }
        }
        let cut = cut(
            &mut scratch.indices,
            &scratch.sums,
            &scratch.values,
            self.typical_p * total,
            self.min_tokens_to_keep,
        );
        for (x, d) in logits.iter_mut().zip(&scratch.sums) {
            if *d > cut {
                *x = F::neg_infinity();
            }
        }
        candidates.compact();
        Ok(())
    }
}

/// The smallest of `keys` (not less than the `least`-th of them) up to which the weights sum to `target`; the largest if rounding left no such.
///
/// The candidates `order` (at least one) are not sorted, but halved: the half in which the sum passes the target is halved again.
fn cut<F: Float>(order: &mut [u32], keys: &[f64], weights: &[F], target: f64, least: usize) -> f64 {
    let by_key = |a: &u32, b: &u32| {
        let keys = keys[*a as usize].partial_cmp(&keys[*b as usize]);
        keys.unwrap_or(Ordering::Equal).then(a.cmp(b))
    };
    // The sum over order[..low] is `before`, below the target; that over order[..high] is not, or all are in there.
    let (mut low, mut high, mut before) = (0, order.len(), 0.0);
    while high - low > 1 {
        let middle = (high - low) / 2;
        let part = &mut order[low..high];
        part.select_nth_unstable_by(middle, by_key);
        let sum: f64 = part[..middle]
            .iter()
            .map(|&i| weights[i as usize].as_f64())
            .sum();
        if before + sum >= target {
            high = low + middle;
        } else {
            before += sum;
            low += middle;
        }
    }
    let found = keys[order[low] as usize];
    if least == 1 {
        return found; // at least one is in the sum
    }
    let n = least.min(order.len());
    let (_, nth, _) = order.select_nth_unstable_by(n - 1, by_key);
    found.max(keys[*nth as usize])
}
