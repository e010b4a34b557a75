//! Blocks of numbers, scaled to their largest magnitude: what 4-bit and 8-bit codes have in common.

use std::borrow::Cow;

use llm_numerics::{Storage, memory, simd};
use ndarray::{ArrayRef, Dimension};

use super::NonFinite;
use crate::QuantError;

/// Elements of a task, a multiple of all block sizes.
pub(crate) const TASK: usize = 1 << 16;
/// What a magnitude is at least taken for before it divides: `1e-38`, below the smallest normal number.
pub(crate) const SMALLEST: f32 = 1e-38;

/// The elements in row-major order; copied only where they do not lie so.
pub(crate) fn row_major<S: Storage, D: Dimension>(
    x: &ArrayRef<S, D>,
) -> Result<Cow<'_, [S]>, QuantError> {
    if let Some(slice) = x.as_slice() {
        return Ok(Cow::Borrowed(slice));
    }
    if !memory::has_room::<S>(x.len()) {
        return Err(QuantError::TooLarge { elements: x.len() });
    }
    Ok(Cow::Owned(x.iter().copied().collect()))
}

/// Scales the numbers of a block, of which `scaled` has a copy, to `[-1, 1]`, and returns the largest magnitude.
///
/// Full blocks are multiplied by the reciprocal, a shorter one at the end is divided: bitsandbytes does so on the CPU. Such an
/// end that is all zeros has the scale [`SMALLEST`].
///
/// With [`NonFinite::PoisonBlock`] a block with a number that is not finite becomes zeros with the scale NaN; otherwise the error has the
/// place of that number in the block.
pub(crate) fn scale(
    scaled: &mut [f32],
    is_full: bool,
    non_finite: NonFinite,
) -> Result<f32, (usize, f32)> {
    let largest = largest(scaled);
    if !largest.is_finite() {
        if non_finite == NonFinite::PoisonBlock {
            scaled.fill(0.0);
            return Ok(f32::NAN);
        }
        let found = scaled.iter().copied().enumerate();
        return Err({ found }.find(|(_, x)| !x.is_finite()).unwrap_or_default());
    }
    let divisor = largest.max(SMALLEST);
    simd::vectorize(|| {
        if is_full {
            let factor = 1.0 / divisor;
            for x in scaled.iter_mut() {
                *x = (*x * factor).clamp(-1.0, 1.0);
            }
        } else {
            for x in scaled.iter_mut() {
                *x = (*x / divisor).clamp(-1.0, 1.0);
            }
        }
    });
    Ok(if is_full { largest } else { divisor })
}

/// The largest magnitude; NaN if there is one.
pub(crate) fn largest(x: &[f32]) -> f32 {
    simd::vectorize(|| {
        let bits = x.iter().map(|x| x.to_bits() & 0x7fff_ffff);
        f32::from_bits(bits.fold(0, u32::max)) // magnitudes are in the order of their bits, NaN last
    })
}

/// A list of one number over and over, or an error where there is no memory for it.
pub(crate) fn filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>, QuantError> {
    let mut list = Vec::new();
    list.try_reserve_exact(len)
        .map_err(|_| QuantError::TooLarge { elements: len })?;
    list.resize(len, value);
    Ok(list)
}

/// A list of zeros, or an error where there is no memory for it.
pub(crate) fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, QuantError> {
    filled(T::default(), len)
}

/// Of errors with places the one with the first place; of all that is known, so that threads do not matter.
pub(crate) fn first_error(errors: Vec<Option<(usize, f32)>>) -> Result<(), QuantError> {
    match errors.into_iter().flatten().next() {
        Some((index, value)) => Err(QuantError::NonFinite { index, value }),
        None => Ok(()),
    }
}
