//! New positions for keys that have been rotated already.

use ndarray::{Array2, Array4, ArrayRef1, ArrayRef4};

use super::rotate::{self, Direction, turn};
use super::table::check_inv_freq;
use super::{RopePairing, RopeTable};
use crate::PosencError;
use crate::memory::check_size;
use llm_numerics::Float;

/// Moves rotated keys by a distance, as if they had been rotated at `position + distance`.
///
/// ```text
/// R(distance) R(position) k = R(position + distance) k
/// ```
///
/// For caches whose tokens move: a dropped middle (`StreamingLLM`), a shared prefix, pages that are put
/// together. The frequencies must be those that the keys were rotated with. An attention
/// factor that is in the keys stays there once; this rotation has none.
///
/// `pairing` is the one of [`apply`](super::apply): keys of
/// `ReadInterleavedWriteHalfSplit` are stored half-split, and are turned so.
///
/// # Shapes
///
/// - `k`: `[batch, heads, seq, head_dim]`
/// - `distances`: `[seq]`, or `[1]` for all, in tokens, of either sign
/// - `inv_freq`: `[rotary_dim / 2]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::Distances`] if there is neither one distance nor one for each sequence element.
/// - [`PosencError::Distance`] if a distance is beyond ±2^53 or its angle overflows.
/// - [`PosencError::InvFreq`] if a frequency is not finite.
/// - [`PosencError::RotaryDimAboveHeadDim`], [`PosencError::TooLarge`] as [`apply`](super::apply).
///
/// # Precision
///
/// As [`apply`](super::apply); each move adds its rounding, so a key that moves a thousand
/// times in `f32` drifts by some thousand units in the last place.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopeConfig, RopePairing};
/// use ndarray::{Array4, array};
///
/// let config = RopeConfig::new(8, RopePairing::HalfSplit);
/// let k = Array4::<f64>::ones((1, 2, 2, 8));
/// let cached = rope::apply_at(&k, &array![100, 101], &config)?;
/// let moved = rope::reposition(&cached, &array![-96], &rope::inv_freq(&config)?, config.pairing)?;
/// let want = rope::apply_at(&k, &array![4, 5], &config)?;
/// assert!((moved - want).iter().all(|x| x.abs() < 1e-6));
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `llama_memory_seq_add` of llama.cpp; Xiao et al., `StreamingLLM`, arXiv:2309.17453v4, section 3.2.
pub fn reposition<F: Float>(
    k: &ArrayRef4<F>,
    distances: &ArrayRef1<i64>,
    inv_freq: &ArrayRef1<f64>,
    pairing: RopePairing,
) -> Result<Array4<F>, PosencError> {
    let table = table(k.dim().2, distances, inv_freq)?;
    rotate::into_new(
        k,
        F::zero(),
        &table,
        written(pairing),
        Direction::Forward,
        turn,
    )
}

/// [`reposition`] in place.
///
/// # Errors
///
/// As [`reposition`]; `k` is then unchanged.
pub fn reposition_inplace<F: Float>(
    k: &mut ArrayRef4<F>,
    distances: &ArrayRef1<i64>,
    inv_freq: &ArrayRef1<f64>,
    pairing: RopePairing,
) -> Result<(), PosencError> {
    let table = table(k.dim().2, distances, inv_freq)?;
    rotate::inplace(k, &table, written(pairing), Direction::Forward, turn)
}

/// The pairing of what `pairing` has written.
pub(crate) const fn written(pairing: RopePairing) -> RopePairing {
    match pairing {
        RopePairing::ReadInterleavedWriteHalfSplit => RopePairing::HalfSplit,
        same => same,
    }
}

/// The rotations of the distances.
pub(crate) fn table(
    seq: usize,
    distances: &ArrayRef1<i64>,
    inv_freq: &ArrayRef1<f64>,
) -> Result<RopeTable, PosencError> {
    check_inv_freq(inv_freq)?;
    let got = distances.len();
    if got != 1 && got != seq {
        return Err(PosencError::Distances { seq, got });
    }
    check_size::<i64>(got, 1)?;
    let largest = inv_freq.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
    for (index, &got) in distances.iter().enumerate() {
        if got.unsigned_abs() > 1 << 53 || !(got as f64 * largest).is_finite() {
            return Err(PosencError::Distance { index, got });
        }
    }
    check_size::<f64>(seq, inv_freq.len())?;
    let angles = Array2::from_shape_fn((seq, inv_freq.len()), |(t, plane)| {
        distances[if got == 1 { 0 } else { t }] as f64 * inv_freq[plane]
    });
    RopeTable::from_angles(&angles, 1.0)
}
