//! ALiBi: a penalty on attention scores that grows linearly with the distance.

use llm_numerics::Float;
use ndarray::{Array1, Array2, Array3, ArrayRef1, ArrayRef3};

use crate::PosencError;
use crate::diagonals::{self, Sharing, check_heads, check_size};

mod at;

pub use at::{AlibiRounding, backward_at, bias_at, key_positions};

/// The `max_bias` of the paper: with 8 heads the slopes are 1/2, 1/4, .., 1/256.
pub const MAX_BIAS: f64 = 8.0;

/// The largest number of heads that a bias may have.
pub const MAX_HEADS: usize = 1 << 16;

/// What the slope is multiplied with.
///
/// Query `i` stands at position `i + kv_seq - seq`: the last query beside the last key. Within a
/// row all but [`AbsoluteDistance`](Self::AbsoluteDistance) and [`PastDistance`](Self::PastDistance)
/// differ by a constant, which the softmax takes out, and those two differ from the rest only at
/// keys after the query. So under a causal mask without padding all five give the same attention
/// weights; without the mask, or when scores are compared across rows, they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlibiOrigin {
    /// `key`: counted from the first key. Bloom and Falcon (see [`bias_at`] for padding).
    KeyIndex,
    /// `key - (kv_seq - 1)`: counted from the last key, which gets 0. MPT.
    LastKeyZero,
    /// `-|query - key|`: a penalty in both directions. FlashAttention.
    AbsoluteDistance,
    /// `key - query`: later keys are favored. The paper's formula, where a mask hides them.
    SignedDistance,
    /// `min(key - query, 0)`: later keys get 0. The lower triangle that tutorials print.
    PastDistance,
}

/// The slope of each head: a geometric series from `2^(-max_bias / n)` to `2^-max_bias`.
///
/// ```text
/// slope_h = 2^(-max_bias h / p),                  h = 1 ..= p,   p = 2^floor(log2 n_heads)
/// slope_h = 2^(-max_bias (2 (h - p) - 1) / (2p)), h = p + 1 ..= n_heads
/// ```
///
/// Bloom, Falcon, MPT, llama.cpp and the authors' code state the rule for numbers of heads that are
/// no power of two in different words. It is one rule, for every `n_heads` and every `max_bias`:
/// MPT's series for `2p` heads has the first line at its even places and the second at its odd ones.
///
/// # Shapes
///
/// - returns: `[n_heads]`
///
/// # Errors
///
/// - [`PosencError::Heads`] if `n_heads` is zero or above [`MAX_HEADS`].
/// - [`PosencError::MaxBias`] if `max_bias` is negative or not finite. Zero gives slopes of 1; in
///   llama.cpp it turns ALiBi off.
///
/// # Precision
///
/// `f64`, rounded once to `f32`. Bloom takes powers of an `f32`, which is off by up to 7e-7, relative,
/// with at most 128 heads. Slopes below the smallest `f32` are 0.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi;
///
/// let slopes = alibi::slopes(4, alibi::MAX_BIAS)?;
/// assert_eq!(slopes, ndarray::array![0.25, 0.0625, 0.015625, 0.00390625]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Press et al., Train Short, Test Long, arXiv:2108.12409v2, section 3; `max_bias` as
/// `alibi_bias_max` of MPT in transformers 5.23.
#[doc(alias = "get_slopes")]
pub fn slopes(n_heads: usize, max_bias: f64) -> Result<Array1<f32>, PosencError> {
    check_heads(n_heads)?;
    if !(max_bias.is_finite() && max_bias >= 0.0) {
        return Err(PosencError::MaxBias { got: max_bias });
    }
    let power = 1 << n_heads.ilog2();
    Ok((0..n_heads)
        .map(|head| {
            let part = if head < power {
                (head + 1) as f64 / power as f64
            } else {
                (2 * (head - power) + 1) as f64 / (2 * power) as f64
            };
            (-max_bias * part).exp2() as f32
        })
        .collect())
}

/// What the slope is multiplied with at one query and key, see [`AlibiOrigin`].
///
/// Never panics; indices beyond the lengths, or lengths beyond 2^62, give numbers without meaning.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::{self, AlibiOrigin};
///
/// // One new query after 9 cached keys stands at position 9.
/// assert_eq!(alibi::distance(0, 7, 1, 10, AlibiOrigin::SignedDistance), -2);
/// assert_eq!(alibi::distance(0, 7, 1, 10, AlibiOrigin::KeyIndex), 7);
/// ```
#[must_use]
pub fn distance(query: usize, key: usize, seq: usize, kv_seq: usize, origin: AlibiOrigin) -> i64 {
    let key = key as i64;
    let query = (query as i64)
        .wrapping_add(kv_seq as i64)
        .wrapping_sub(seq as i64);
    let relative = key.wrapping_sub(query);
    match origin {
        AlibiOrigin::KeyIndex => key,
        AlibiOrigin::LastKeyZero => key.wrapping_sub(kv_seq as i64).wrapping_add(1),
        AlibiOrigin::AbsoluteDistance => relative.wrapping_abs().wrapping_neg(),
        AlibiOrigin::SignedDistance => relative,
        AlibiOrigin::PastDistance => relative.min(0),
    }
}

/// The [`distance`] of every query and key: the bias of a head with slope 1.
///
/// # Shapes
///
/// - returns: `[seq, kv_seq]`
///
/// # Errors
///
/// - [`PosencError::BiasTooLarge`] if the result does not fit into memory.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::{self, AlibiOrigin};
///
/// let distances = alibi::distances(3, 3, AlibiOrigin::PastDistance)?;
/// assert_eq!(distances, ndarray::array![[0, 0, 0], [-1, 0, 0], [-2, -1, 0]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn distances(
    seq: usize,
    kv_seq: usize,
    origin: AlibiOrigin,
) -> Result<Array2<i64>, PosencError> {
    check_size::<i64>([1, seq, kv_seq])?;
    Ok(Array2::from_shape_fn((seq, kv_seq), |(query, key)| {
        distance(query, key, seq, kv_seq, origin)
    }))
}

/// The bias of one score, for use inside a loop over scores.
///
/// ```text
/// slope * distance(query, key)
/// ```
///
/// [`bias`] has the same bits. Nothing is checked and nothing panics, see [`distance`].
///
/// # Precision
///
/// The distance rounded to `F` (exact up to 2^24 in `f32`), then one product.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::{self, AlibiOrigin};
///
/// // One new query after 9 cached keys: it is token 9, and token 7 is 2 away.
/// let bias = alibi::score_bias(0.5_f32, 0, 7, 1, 10, AlibiOrigin::AbsoluteDistance);
/// assert_eq!(bias, -1.0);
/// ```
#[inline]
#[must_use]
// ANCHOR: score_bias
pub fn score_bias<F: Float>(
    slope: F,
    query: usize,
    key: usize,
    seq: usize,
    kv_seq: usize,
    origin: AlibiOrigin,
) -> F {
    slope * from_i64::<F>(distance(query, key, seq, kv_seq, origin))
}
// ANCHOR_END: score_bias

/// The bias of every head, query and key, to be added to the scaled scores.
///
/// ```text
/// bias[h, i, j] = slopes[h] * distance(i, j)
/// ```
///
/// # Shapes
///
/// - `slopes`: `[heads]`
/// - returns: `[heads, seq, kv_seq]`
///
/// # Errors
///
/// - [`PosencError::Heads`] if there are no slopes, or more than [`MAX_HEADS`].
/// - [`PosencError::Slope`] if a slope is negative or not finite.
/// - [`PosencError::BiasTooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// As [`score_bias`].
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::{self, AlibiOrigin};
/// use ndarray::{array, s};
///
/// let slopes = alibi::slopes(8, alibi::MAX_BIAS)?;
/// let bias = alibi::bias(&slopes, 2, 3, AlibiOrigin::SignedDistance)?; // [8, 2, 3]
/// assert_eq!(bias.slice(s![0, .., ..]), array![[-0.5, 0.0, 0.5], [-1.0, -0.5, 0.0]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Press et al., Train Short, Test Long, arXiv:2108.12409v2, section 3; the origins as
/// transformers 5.23 (Bloom, MPT) and FlashAttention 2 have them.
pub fn bias<F: Float>(
    slopes: &ArrayRef1<F>,
    seq: usize,
    kv_seq: usize,
    origin: AlibiOrigin,
) -> Result<Array3<F>, PosencError> {
    check_slopes(slopes)?;
    let sharing = sharing(origin);
    diagonals::fill([slopes.len(), seq, kv_seq], sharing, |head| {
        sharing
            .places(seq, kv_seq)
            .map(move |(query, key)| score_bias(slopes[head], query, key, seq, kv_seq, origin))
    })
}

/// The gradient for the slopes of [`bias`].
///
/// ```text
/// dslopes[h] = sum_ij dbias[h, i, j] * distance(i, j)
/// ```
///
/// A bias is added to the scores, so `dbias` is the gradient for the scores, summed over the batch
/// (0 where a mask hides the key).
///
/// # Shapes
///
/// - `dbias`: `[heads, seq, kv_seq]`
/// - returns: `[heads]`
///
/// # Errors
///
/// - [`PosencError::Heads`] if there are no heads, or more than [`MAX_HEADS`].
/// - [`PosencError::BiasTooLarge`] if `seq + kv_seq` sums do not fit into memory, or `dbias` is longer than memory
///   because it repeats.
///
/// # Precision
///
/// Summed in `f64` in a fixed order, rounded once. NaN makes the gradient of its head NaN.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::{self, AlibiOrigin};
/// use ndarray::array;
///
/// let dbias = array![[[1.0, 0.0], [10.0, 1.0]]]; // [1, 2, 2]
/// let dslopes = alibi::backward(&dbias, AlibiOrigin::SignedDistance)?;
/// assert_eq!(dslopes, array![-10.0]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward<F: Float>(
    dbias: &ArrayRef3<F>,
    origin: AlibiOrigin,
) -> Result<Array1<F>, PosencError> {
    let (_, seq, kv_seq) = dbias.dim();
    let sharing = sharing(origin);
    let dslopes = diagonals::sum(dbias, sharing, |_, sums| {
        let terms = sums.iter().zip(sharing.places(seq, kv_seq));
        let sum = terms.fold(0.0, |sum, (dbias, (query, key))| {
            sum + dbias * distance(query, key, seq, kv_seq, origin) as f64
        });
        F::from_f64(sum)
    })?;
    Ok(dslopes.into())
}

const fn sharing(origin: AlibiOrigin) -> Sharing {
    match origin {
        AlibiOrigin::KeyIndex | AlibiOrigin::LastKeyZero => Sharing::Column,
        AlibiOrigin::AbsoluteDistance | AlibiOrigin::SignedDistance | AlibiOrigin::PastDistance => {
            Sharing::Diagonal
        }
    }
}

fn check_slopes<F: Float>(slopes: &ArrayRef1<F>) -> Result<(), PosencError> {
    check_heads(slopes.len())?;
    match slopes
        .iter()
        .position(|slope| !(slope.is_finite() && *slope >= F::zero()))
    {
        None => Ok(()),
        Some(head) => Err(PosencError::Slope {
            head,
            got: slopes[head].as_f64(),
        }),
    }
}

#[inline(always)]
fn from_i64<F: Float>(x: i64) -> F {
    // `F` is f32 or f64; through f64 a distance beyond 2^53 would be rounded twice, which is no matter.
    F::from_f64(x as f64)
}
