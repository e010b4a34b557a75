//! Positions as numbers: what they become in half precision, and why they are integers here.
//!
//! A number type with few digits cannot count far: bfloat16 has no number between 256 and 258, so the tokens 256 and 257
//! become one position. Models whose positions or angles are cast with the weights have this bug, and no error shows it.
//! In this crate positions are whole numbers, `usize` on the CPU and `u32` on the GPU, and angles are made from them in
//! `f64` (on the GPU in whole numbers too). One option rounds positions, and says so in its name:
//! [`AlibiRounding::Bfloat16`](crate::alibi::AlibiRounding::Bfloat16) repeats what Falcon does, collisions included.
//! For all else:
//!
//! ```
//! use llm_posenc::rope::{self, RopeConfig, RopePairing};
//! use ndarray::{Array4, array};
//!
//! let q = Array4::<f32>::ones((1, 1, 2, 8)); // [batch, heads, seq, head_dim]
//! let config = RopeConfig::new(8, RopePairing::HalfSplit);
//! let positions = array![256, 257];
//! let rotated = rope::apply_at(&q, &positions, &config)?;
//! # assert_eq!(rotated.dim(), q.dim());
//! # Ok::<(), llm_posenc::PosencError>(())
//! ```
//!
//! The same with positions in half precision does not compile:
//!
//! ```compile_fail,E0308
//! use llm_numerics::half::bf16;
//! use llm_posenc::rope::{self, RopeConfig, RopePairing};
//! use ndarray::{Array4, array};
//!
//! let q = Array4::<f32>::ones((1, 1, 2, 8)); // [batch, heads, seq, head_dim]
//! let config = RopeConfig::new(8, RopePairing::HalfSplit);
//! let positions = array![bf16::from_f32(256.0), bf16::from_f32(257.0)];
//! let rotated = rope::apply_at(&q, &positions, &config)?; // mismatched types
//! # Ok::<(), llm_posenc::PosencError>(())
//! ```
//!
//! The functions here show what would happen.

use std::ops::Range;

use ndarray::{Array1, ArrayRef1};

use crate::PosencError;
use crate::memory::check_size;
use llm_numerics::Storage;

/// What positions become when they are kept in `T`: rounded to `f32` and then to `T`, as torch casts integers.
///
/// # Shapes
///
/// - `positions`: `[seq]`
/// - returns: `[seq]`
///
/// # Errors
///
/// - [`PosencError::TooLarge`] if there is no memory for the result.
///
/// # Precision
///
/// | `T` | exact up to | from then on |
/// |---|---|---|
/// | bf16 | 256 | steps of 2, of 4 from 512 on, and so on: 3 digits |
/// | f16 | 2048 | steps of 2, of 4 from 4096 on, and so on; infinite from 65 520 on |
/// | f32 | 16 777 216 | steps of 2, and so on |
///
/// # Example
///
/// ```
/// use llm_numerics::half::bf16;
/// use llm_posenc::positions;
/// use ndarray::array;
///
/// let kept = positions::positions_in::<bf16>(&array![255, 256, 257, 258, 259])?;
/// assert_eq!(kept, array![255.0, 256.0, 256.0, 258.0, 260.0]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn positions_in<T: Storage>(positions: &ArrayRef1<usize>) -> Result<Array1<f32>, PosencError> {
    check_size::<f32>(1, positions.len())?;
    Ok(positions.mapv(kept_in::<T>))
}

/// The first position that is the same as the next one when both are kept in `T`.
///
/// 256 in bf16, 2048 in f16, 16 777 216 in f32. All positions before it are exact.
///
/// # Example
///
/// ```
/// use llm_numerics::half::{bf16, f16};
/// use llm_posenc::positions::first_collision;
///
/// assert_eq!(first_collision::<bf16>(), Some(256));
/// assert_eq!(first_collision::<f16>(), Some(2048));
/// ```
#[must_use]
pub fn first_collision<T: Storage>() -> Option<usize> {
    // Numbers of p binary digits: integers are exact up to 2^p, and 2^p + 1 is the first that is not.
    (0..usize::BITS)
        .map(|digits| 1_usize << digits)
        .find(|&position| kept_in::<T>(position) == kept_in::<T>(position + 1))
}

/// Neighboring positions that become one number in a narrow type.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Collision {
    /// The first of them.
    pub first: usize,
    /// The last of them, above `first`.
    pub last: usize,
    /// The number that all of them become.
    pub value: f32,
}

/// The positions of a range that cannot be told apart when they are kept in `T`, from the first on.
///
/// A position that keeps a number of its own within the range is left out. The work is one search for each number of
/// `T`, not one for each position, so the range may be as long as it likes.
///
/// # Example
///
/// ```
/// use llm_numerics::half::bf16;
/// use llm_posenc::positions::collisions;
///
/// let found: Vec<_> = collisions::<bf16>(0..262)
///     .map(|collision| (collision.first..=collision.last, collision.value))
///     .collect();
/// assert_eq!(found, [(256..=257, 256.0), (259..=261, 260.0)]);
///
/// // 4096 tokens have only 769 positions between them.
/// let lost: usize = collisions::<bf16>(0..4096).map(|c| c.last - c.first).sum();
/// assert_eq!(4096 - lost, 769);
/// ```
pub fn collisions<T: Storage>(range: Range<usize>) -> impl Iterator<Item = Collision> {
    let mut next = range
        .start
        .max(first_collision::<T>().unwrap_or(usize::MAX));
    std::iter::from_fn(move || {
        while next < range.end {
            let (first, value) = (next, kept_in::<T>(next));
            // Rounding keeps the order, so equal numbers stand side by side: double the step, then halve it.
            let is_same = |position: usize| position < range.end && kept_in::<T>(position) == value;
            let (mut last, mut step) = (first, 1_usize);
            while last.checked_add(step).is_some_and(is_same) {
                last += step;
                step = step.saturating_mul(2);
            }
            while step > 0 {
                if last.checked_add(step).is_some_and(is_same) {
                    last += step;
                }
                step /= 2;
            }
            next = last + 1;
            if last > first {
                return Some(Collision { first, last, value });
            }
        }
        None
    })
}

fn kept_in<T: Storage>(position: usize) -> f32 {
    T::from_f32(position as f32).to_f32()
}
