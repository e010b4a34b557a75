//! Top-k: only the most likely tokens remain.

use llm_numerics::{Float, simd};
use ndarray::ArrayRef2;

use crate::processor::Shortcut;
use crate::{Candidates, Context, Processor, SamplingError, Scratch, processor, rows, select};

/// What becomes of tokens whose logit equals that of the k-th.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ties {
    /// All of them are kept, so that more than `k` may remain: Hugging Face, vLLM.
    Kept,
    /// Exactly `k` remain: llama.cpp, candle. Of equals, the lower ids do.
    Exact,
}

/// Masks all but the `k` largest logits of each row.
///
/// ```text
/// k' = max(k, min_tokens_to_keep)
/// x_i <- -inf  where x_i < the k'-th largest x
/// ```
///
/// `k` at or above `vocab` changes nothing.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, any strides
///
/// # Errors
///
/// - [`SamplingError::TopK`] if `k` is 0.
/// - [`SamplingError::MinTokensToKeep`] if that is 0; 1 is the usual value.
/// - [`SamplingError::NanLogits`], [`SamplingError::Vocab`].
///
/// On an error, the logits are unchanged.
///
/// # Precision
///
/// Exact: logits are kept or masked, never changed. `0.0` and `-0.0` are equal.
///
/// # Example
///
/// ```
/// use llm_sampling::top_k::{self, Ties};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let logits = array![[1.0_f32, 3.0, 2.0, 2.0]];
///
/// let mut kept = logits.clone();
/// top_k::apply_inplace(&mut kept, 2, Ties::Kept, 1)?;
/// assert_eq!(kept, array![[MASKED, 3.0, 2.0, 2.0]]);
///
/// let mut exact = logits;
/// top_k::apply_inplace(&mut exact, 2, Ties::Exact, 1)?;
/// assert_eq!(exact, array![[MASKED, 3.0, 2.0, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Fan, Lewis, Dauphin 2018, arXiv:1805.04833v1; `TopKLogitsWarper` of
/// transformers 5.23.
pub fn apply_inplace<F: Float>(
    logits: &mut ArrayRef2<F>,
    k: usize,
    ties: Ties,
    min_tokens_to_keep: usize,
) -> Result<(), SamplingError> {
    validate(k)?;
    rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
    let k = k.max(min_tokens_to_keep);
    processor::replace_rows(logits, |_, row, candidates| {
        candidates.fill(row)?;
        candidates.keep_largest(1.0, k, ties)
    })
}

/// [`apply_inplace`] as a processor.
///
/// # Example
///
/// ```
/// use llm_sampling::top_k::{Ties, TopK};
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, 3.0, 2.0]];
/// let top_k = TopK::new(1, Ties::Kept, 1)?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &top_k)?;
/// assert_eq!(logits, array![[f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: as for [`apply_inplace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    k: usize,
    ties: Ties,
}

impl TopK {
    /// The filter; `min_tokens_to_keep` is usually 1.
    ///
    /// # Errors
    ///
    /// [`SamplingError::TopK`], [`SamplingError::MinTokensToKeep`] if one is 0.
    pub fn new(k: usize, ties: Ties, min_tokens_to_keep: usize) -> Result<Self, SamplingError> {
        validate(k)?;
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
        Ok(Self {
            k: k.max(min_tokens_to_keep),
            ties,
        })
    }
}

impl<F: Float> Processor<F> for TopK {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        candidates.keep_largest(1.0, self.k, self.ties)
    }

    fn shortcut(&self) -> Shortcut {
        Shortcut::KeepLargest {
            k: self.k,
            ties: self.ties,
        }
    }
}

pub(crate) fn validate(k: usize) -> Result<(), SamplingError> {
    if k == 0 {
        return Err(SamplingError::TopK(k));
    }
    Ok(())
}

/// Masks all but `k` (at least 1) logits of a row without NaN.
pub(crate) fn mask<F: Float>(row: &mut [F], k: usize, ties: Ties, scratch: &mut Scratch<F>) {
    if k >= row.len() {
        return;
    }
    let kth = select::kth_largest(row, k, scratch);
    let larger = simd::vectorize(
        #[inline(always)]
        || row.iter().fold(0_usize, |n, &x| n + usize::from(x > kth)),
    );
    // How many equal to the k-th may stay.
    let mut equals = match ties {
        Ties::Kept => usize::MAX,
        Ties::Exact => k - larger,
    };
    for x in row.iter_mut() {
        if *x < kth {
            *x = F::neg_infinity();
        } else if *x == kth {
            if equals == 0 {
                *x = F::neg_infinity();
            } else {
                equals -= 1;
            }
        }
    }
}
