//! ALiBi at key positions that the caller gives: padded and packed batches.

use llm_numerics::half::bf16;
use llm_numerics::{Float, threads};
use ndarray::{Array1, Array2, Array4, ArrayRef1, ArrayRef2, ArrayRef4, Axis};

use super::check_slopes;
use crate::PosencError;
use crate::diagonals::{check_heads, check_size};

/// Where a bias is rounded on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlibiRounding {
    /// Only the product, to the type of the result: Bloom and MPT in `f32`.
    Product,
    /// Slopes, positions and product to bfloat16: Falcon in any type. Positions collide above 256.
    Bfloat16,
}

/// The position of each key among those that are no padding: what Bloom and Falcon count.
///
/// ```text
/// position[b, j] = mask[b, j] * (mask[b, 0] + .. + mask[b, j] - 1)
/// ```
///
/// # Shapes
///
/// - `mask`: `[batch, kv_seq]`, true where a key is a token
/// - returns: `[batch, kv_seq]`, 0 at padding
///
/// # Errors
///
/// - [`PosencError::BiasTooLarge`] if the result does not fit into memory.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi;
/// use ndarray::array;
///
/// let mask = array![[false, false, true, true, true]]; // padded on the left
/// assert_eq!(alibi::key_positions(&mask)?, array![[0, 0, 0, 1, 2]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `build_alibi_tensor` of Bloom in transformers 5.23.
pub fn key_positions(mask: &ArrayRef2<bool>) -> Result<Array2<usize>, PosencError> {
    let (batch, kv_seq) = mask.dim();
    check_size::<usize>([batch, 1, kv_seq])?;
    let mut positions = Array2::zeros((batch, kv_seq));
    if positions.is_empty() {
        return Ok(positions);
    }
    for (mask, mut positions) in mask.outer_iter().zip(positions.outer_iter_mut()) {
        let mut seen = 0;
        for (&is_token, position) in mask.iter().zip(&mut positions) {
            if is_token {
                *position = seen;
                seen += 1;
            }
        }
    }
    Ok(positions)
}

/// The bias of keys at given positions, the same for every query: [`KeyIndex`](super::AlibiOrigin::KeyIndex) for
/// padded or packed batches.
///
/// ```text
/// bias[b, h, 0, j] = slopes[h] * key_positions[b, j]
/// ```
///
/// Falcon divides the result by the root of `head_dim`, as it does with the scores; Bloom adds it
/// to scores that are already scaled. The division is left to the caller.
///
/// # Shapes
///
/// - `slopes`: `[heads]`
/// - `key_positions`: `[batch, kv_seq]`, as from [`key_positions`]
/// - returns: `[batch, heads, 1, kv_seq]`
///
/// # Errors
///
/// - [`PosencError::Heads`] if there are no slopes, or more than [`MAX_HEADS`](super::MAX_HEADS).
/// - [`PosencError::Slope`] if a slope is negative or not finite.
/// - [`PosencError::BiasTooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// As `rounding` says. The bfloat16 form has 8 bits: position 257 counts as 256.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::{self, AlibiRounding};
/// use ndarray::array;
///
/// let slopes = array![0.5, 0.25];
/// let positions = alibi::key_positions(&array![[false, true, true, true]])?;
/// let bias = alibi::bias_at(&slopes, &positions, AlibiRounding::Product)?;
/// assert_eq!(bias, array![[[[0.0, 0.0, 0.5, 1.0]], [[0.0, 0.0, 0.25, 0.5]]]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `build_alibi_tensor` of Bloom and of Falcon in transformers 5.23.
pub fn bias_at<F: Float>(
    slopes: &ArrayRef1<F>,
    key_positions: &ArrayRef2<usize>,
    rounding: AlibiRounding,
) -> Result<Array4<F>, PosencError> {
    check_slopes(slopes)?;
    let (batch, kv_seq) = key_positions.dim();
    check_size::<F>([batch, slopes.len(), kv_seq])?;
    let mut out = Array4::zeros((batch, slopes.len(), 1, kv_seq));
    if out.is_empty() {
        return Ok(out);
    }
    for (positions, mut out) in key_positions.outer_iter().zip(out.outer_iter_mut()) {
        for (&slope, mut out) in slopes.iter().zip(out.outer_iter_mut()) {
            for (bias, &position) in out.iter_mut().zip(positions) {
                *bias = match rounding {
                    AlibiRounding::Product => slope * F::from_f64(position as f64),
                    AlibiRounding::Bfloat16 => bfloat16_product(slope, position),
                };
            }
        }
    }
    Ok(out)
}

/// The gradient for the slopes of [`bias_at`], added up over batch, queries and keys.
///
/// ```text
/// dslopes[h] = sum_bij dbias[b, h, i, j] * key_positions[b, j]
/// ```
///
/// Roundings to bfloat16 count as the identity.
///
/// # Shapes
///
/// - `dbias`: `[batch, heads, seq, kv_seq]`; `seq` is 1, or the queries that shared the bias
/// - `key_positions`: `[batch, kv_seq]`
/// - returns: `[heads]`
///
/// # Errors
///
/// - [`PosencError::Heads`] if there are no heads, or more than [`MAX_HEADS`](super::MAX_HEADS).
/// - [`PosencError::KeyPositionsShape`] if `batch` or `kv_seq` differ.
/// - [`PosencError::BiasTooLarge`] if an argument is longer than memory because it repeats.
///
/// # Precision
///
/// Summed in `f64` in a fixed order, rounded once.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi;
/// use ndarray::array;
///
/// let positions = alibi::key_positions(&array![[false, true, true, true]])?; // 0 0 1 2
/// let dbias = array![[[[8.0, 4.0, 2.0, 1.0]]]]; // [batch, heads, seq, kv_seq]
/// assert_eq!(alibi::backward_at(&dbias, &positions)?, array![4.0]); // 2 * 1 + 1 * 2
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward_at<F: Float>(
    dbias: &ArrayRef4<F>,
    key_positions: &ArrayRef2<usize>,
) -> Result<Array1<F>, PosencError> {
    let (batch, heads, seq, kv_seq) = dbias.dim();
    check_heads(heads)?;
    if key_positions.dim() != (batch, kv_seq) {
        return Err(PosencError::KeyPositionsShape {
            expected: [batch, kv_seq],
            got: key_positions.dim().into(),
        });
    }
    check_size::<F>([batch, heads, seq * kv_seq])?; // of what is walked through
    if dbias.is_empty() {
        return Ok(Array1::zeros(heads));
    }
    let dslopes = threads::map((0..heads).collect(), |head| {
        let dbias = dbias.index_axis(Axis(1), head);
        let mut sum = 0.0;
        for (dbias, positions) in dbias.outer_iter().zip(key_positions.outer_iter()) {
            for row in dbias.outer_iter() {
                let terms = row.iter().zip(positions);
                sum += terms.map(|(x, &p)| x.as_f64() * p as f64).sum::<f64>();
            }
        }
        F::from_f64(sum)
    });
    Ok(dslopes.into())
}

/// The product of two bfloat16 is exact in `f32`, so it is rounded once.
fn bfloat16_product<F: Float>(slope: F, position: usize) -> F {
    let slope = to_bfloat16(slope.as_f64()).to_f32();
    let position = bf16::from_f32(position as f32).to_f32();
    F::from_f64(bf16::from_f32(slope * position).to_f64())
}

/// The nearest bfloat16 of a number that is not negative.
///
/// `half` 2.7 looks at the upper 32 bits of an `f64` only, and so may take a number beyond the middle
/// of two for the middle. Here the way leads over an `f32` whose last bit tells that there was more.
fn to_bfloat16(x: f64) -> bf16 {
    let nearest = x as f32;
    let bits = nearest.to_bits() - u32::from(f64::from(nearest) > x);
    let is_exact = f64::from(nearest) == x;
    bf16::from_f32(f32::from_bits(bits | u32::from(!is_exact)))
}
