//! Greedy decoding: the most likely token.

use llm_numerics::{Float, simd};
use ndarray::ArrayRef1;

use crate::{SamplingError, rows};

/// The token with the largest logit; of equals, the lowest id (as torch's `argmax` on the CPU).
///
/// ```text
/// token = min { i : x_i = max_j x_j }
/// ```
///
/// # Shapes
///
/// - `logits`: `[vocab]`, any stride
///
/// # Errors
///
/// - [`SamplingError::NanLogits`] if a logit is NaN: it is never taken for a small one.
/// - [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], [`SamplingError::Vocab`].
///
/// They name row 0.
///
/// # Example
///
/// ```
/// use llm_sampling::greedy;
/// use ndarray::array;
///
/// assert_eq!(greedy::argmax(&array![1.0_f32, 3.0, 3.0])?, 1);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn argmax<F: Float>(logits: &ArrayRef1<F>) -> Result<u32, SamplingError> {
    rows::as_slice(logits, &mut Vec::new(), argmax_slice)
}

pub(crate) fn argmax_slice<F: Float>(row: &[F]) -> Result<u32, SamplingError> {
    let max = rows::finite_max(row)?;
    let token = first_at_least(row, max).unwrap_or(0);
    Ok(token as u32) // vocab is at most 2^32
}

/// The place of the first number that is not below a bound; there is no NaN. One by one takes ten times as long.
fn first_at_least<F: Float>(row: &[F], bound: F) -> Option<usize> {
    let (blocks, rest) = row.as_chunks::<64>();
    let in_block = simd::vectorize(
        #[inline(always)]
        || {
            for (i, block) in blocks.iter().enumerate() {
                let bits = simd::at_least(block, bound);
                if bits != 0 {
                    return Some(64 * i + bits.trailing_zeros() as usize);
                }
            }
            None
        },
    );
    let in_rest = || {
        let place = rest.iter().position(|x| *x >= bound)?;
        Some(64 * blocks.len() + place)
    };
    in_block.or_else(in_rest)
}
