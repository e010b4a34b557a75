//! Top-h: the likeliest tokens, up to a share of the entropy.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, select};

/// Tokens that top-h looks at, the likeliest ones.
const LIKELIEST: usize = 100;

/// Masks all but the likeliest tokens, as many as have no more than a share of the entropy together.
///
/// ```text
/// q = softmax of the 100 largest x, in descending order;   H = -sum_j q_j ln q_j
/// x_i stays  while -(q_1 ln q_1 + .. + q_i ln q_i) <= top_h H;   all else <- -inf
/// ```
///
/// The likeliest token always stays. Of equals, lower ids come first. `top_h = 1` keeps the 100 likeliest.
///
/// # Precision
///
/// Everything is computed in `f64`. Where a sum is within `1e-6` of the bound, a library that computes in `f32` may keep another number of
/// tokens.
///
/// # Example
///
/// ```
/// use llm_sampling::top_h::TopH;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// // Probabilities 1/2, 1/4, 1/8, 1/8 give 1/2, 1/2, 3/8, 3/8 bits: 1.75 in all.
/// let mut logits = array![[0.0_f64, -1.0, -2.0, -2.0]] * 2_f64.ln();
/// let kept = logits[[0, 1]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &TopH::new(0.6)?)?; // 1.05 bits
/// assert_eq!(logits, array![[0.0, kept, MASKED, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Potraghloo et al. 2025, arXiv:2509.02510v1; `TopHLogitsWarper` of transformers 5.23, whose 100 is not in the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopH {
    top_h: f64,
}

impl TopH {
    /// The filter; the paper uses 0.4.
    ///
    /// # Errors
    ///
    /// [`SamplingError::TopH`] if `top_h` is not in `(0, 1]`.
    pub fn new(top_h: f64) -> Result<Self, SamplingError> {
        if !(top_h > 0.0 && top_h <= 1.0) {
            return Err(SamplingError::TopH(top_h));
        }
        Ok(Self { top_h })
    }
}

impl<F: Float> Processor<F> for TopH {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        let max = candidates.max()?.as_f64();
        let (logits, scratch) = candidates.with_scratch();
        // The likeliest, and what equals the last of them, without sorting all.
        let mut least = F::neg_infinity();
        if logits.len() > LIKELIEST {
            least = select::kth_largest(logits, LIKELIEST, scratch);
        }
        let order = &mut scratch.indices;
        order.clear();
        for (i, x) in logits.iter().enumerate() {
            if *x >= least && *x > F::neg_infinity() {
                order.push(i as u32); // vocab is at most 2^32
            }
        }
        // Likeliest first, equals by id.
        order.sort_unstable_by(|&a, &b| {
            let by_logit = select::descending(logits[a as usize], logits[b as usize]);
            by_logit.then(a.cmp(&b))
        });
        order.truncate(LIKELIEST);

        let below_max = |i: u32| logits[i as usize].as_f64() - max;
        let total: f64 = order.iter().map(|&i| below_max(i).exp()).sum();
        let term = |i: u32| {
            let log_q = below_max(i) - total.ln();
            let q = log_q.exp();
            if q > 0.0 { -q * log_q } else { 0.0 } // even where the logarithm is infinite
        };
        let bound = self.top_h * order.iter().map(|&i| term(i)).sum::<f64>();
        let mut last = order[order.len() - 1];
        if self.top_h < 1.0 {
            last = order[0];
            let mut sum = term(last);
            for &i in &order[1..] {
                sum += term(i);
                if sum > bound {
                    break;
                }
                last = i;
            }
        }
        let smallest = logits[last as usize];
        for (i, x) in logits.iter_mut().enumerate() {
            if *x < smallest || (*x == smallest && i > last as usize) {
                *x = F::neg_infinity();
            }
        }
        candidates.compact();
        Ok(())
    }
}
