//! Top-nσ: tokens whose logit is near the largest, by the spread of all logits.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError};

/// Masks tokens more than `n` standard deviations below the largest logit.
///
/// ```text
/// x_i <- -inf  where x_i < max_j x_j - n sigma,   sigma^2 = mean (x_j - mean x)^2
/// ```
///
/// Mean and deviation are of all tokens above `-inf`, the deviation of a whole population (divided by their count, not by one less). The
/// choice of tokens is the same at every temperature. The likeliest always stays.
///
/// # Order
///
/// After the penalties and before top-k in llama.cpp's default chain, so before the temperature; for this method that makes no difference.
///
/// # Precision
///
/// Sums are in `f64`; no probability is computed. A token within `1e-6` of the bound (relatively to the largest logit, `f32`) may fall on the
/// other side than in a library that sums in `f32`.
///
/// # Example
///
/// ```
/// use llm_sampling::top_n_sigma::TopNSigma;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// let mut logits = array![[5.0, 3.0, 1.0, -1.0]];
/// // Mean 2, variance (9 + 1 + 1 + 9) / 4 = 5: what is below 5 - 2 · 2.236 = 0.528 goes.
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &TopNSigma::new(2.0)?)?;
/// assert_eq!(logits, array![[5.0, 3.0, 1.0, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Tang et al. 2024, arXiv:2411.07641; `llama_sampler_top_n_sigma` of llama.cpp (llama-cpp-python 0.3.36).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopNSigma {
    n: f64,
}

impl TopNSigma {
    /// The filter; 1 is usual, 3 keeps nearly everything. (llama.cpp takes a negative number or 0 for "off".)
    ///
    /// # Errors
    ///
    /// [`SamplingError::TopNSigma`] if `n` is not finite and above 0.
    pub fn new(n: f64) -> Result<Self, SamplingError> {
        if !(n > 0.0 && n.is_finite()) {
            return Err(SamplingError::TopNSigma(n));
        }
        Ok(Self { n })
    }
}

impl<F: Float> Processor<F> for TopNSigma {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        let max = candidates.max()?.as_f64();
        // A power of two, so that no digit is lost and no square overflows.
        let finite = |x: &&F| **x > F::neg_infinity();
        let largest = candidates.logits().iter().filter(finite);
        let largest = largest.fold(0.0, |largest: f64, x| largest.max(x.as_f64().abs()));
        let scale = if largest > 1e150 {
            2_f64.powi(-600)
        } else {
            1.0
        };
        // Distances from the largest logit do not cancel where all logits are large.
        let distance = |x: F| max * scale - x.as_f64() * scale;
        let distances = || {
            candidates
                .logits()
                .iter()
                .filter(finite)
                .map(|x| distance(*x))
        };
        let n = distances().count() as f64;
        let mean = distances().sum::<f64>() / n;
        let variance = distances().map(|d| (d - mean).powi(2)).sum::<f64>() / n;
        let bound = self.n * variance.sqrt();
        for x in candidates.logits_mut() {
            if distance(*x) > bound {
                *x = F::neg_infinity();
            }
        }
        candidates.compact();
        Ok(())
    }
}
