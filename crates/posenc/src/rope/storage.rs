//! Rotation of arrays that are stored in half precision.

use ndarray::{Array4, ArrayRef4};

use super::rotate::{self, Direction};
use super::{RopePairing, RopeTable};
use crate::PosencError;
use llm_numerics::Storage;

/// Where a rotation of half-precision numbers rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageRounding {
    /// Once, when the result is stored; products and sum are in `f32`: `ChatGLM`, flash-attention, llama.cpp.
    Once,
    /// After each product and after the sum: transformers, where every tensor has the storage type.
    EachOperation,
}

/// [`apply`](super::apply) for arrays stored in `f16` or `bf16` (or `f32`).
///
/// transformers 5.23 also rounds cosines and sines to the storage type: to get what it
/// gets, take [`RopeTable::rounded`] and [`StorageRounding::EachOperation`].
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - `table`: of `seq` or `batch * seq` rows
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// As [`apply`](super::apply).
///
/// # Precision
///
/// Arithmetic in `f32`, rounded to the storage type where `rounding` says. With a table of attention factor 1 that is
/// not rounded, and `u = 2^-8` in bfloat16, `2^-11` in `f16`, a result `y` is off the exact rotation by up to
///
/// ```text
/// Once           u |y| + 2^-22 (|x1| + |x2|)
/// EachOperation  2 u (|x1| + |x2|)
/// ```
///
/// and by up to twice the smallest number of the type more, where numbers get so small that their digits are fewer.
/// The second term of `Once` is the table's rounding (2^-25 for each cosine and sine), that of both products and of
/// their sum (2^-24 of each) in `f32`: where the products cancel it is all there is.
///
/// # Example
///
/// ```
/// use llm_numerics::half::bf16;
/// use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable, StorageRounding};
/// use ndarray::{Array4, array};
///
/// let config = RopeConfig::new(4, RopePairing::HalfSplit);
/// let table = RopeTable::from_config(&config, &array![3])?.rounded::<bf16>();
/// let k = Array4::from_elem((1, 1, 1, 4), bf16::ONE);
/// let k = rope::apply_stored(&k, &table, config.pairing, StorageRounding::EachOperation)?;
/// assert_eq!(k[[0, 0, 0, 0]].to_f32(), -1.132_812_5); // cos 3 - sin 3 = -1.131_112_5
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `apply_rotary_pos_emb` of transformers 5.23 (`models.llama`) for `EachOperation`.
pub fn apply_stored<S: Storage>(
    x: &ArrayRef4<S>,
    table: &RopeTable,
    pairing: RopePairing,
    rounding: StorageRounding,
) -> Result<Array4<S>, PosencError> {
    into_new(x, table, pairing, rounding, Direction::Forward)
}

/// [`apply_stored`] in place.
///
/// # Errors
///
/// As [`apply`](super::apply); `x` is then unchanged.
pub fn apply_stored_inplace<S: Storage>(
    x: &mut ArrayRef4<S>,
    table: &RopeTable,
    pairing: RopePairing,
    rounding: StorageRounding,
) -> Result<(), PosencError> {
    inplace(x, table, pairing, rounding, Direction::Forward)
}

/// [`backward`](super::backward) for arrays stored in `f16` or `bf16` (or `f32`).
///
/// # Shapes
///
/// - `dout`: `[batch, heads, seq, head_dim]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// As [`apply`](super::apply).
///
/// # Precision
///
/// As [`apply_stored`].
///
/// # Example
///
/// ```
/// use llm_numerics::half::f16;
/// use llm_posenc::rope::{self, RopePairing, RopeTable, StorageRounding};
/// use ndarray::array;
///
/// let table = RopeTable::from_angles(&array![[1.0]], 1.0)?;
/// let dout = array![[[[f16::ONE, f16::ZERO]]]]; // [batch, heads, seq, head_dim]
/// let dx = rope::backward_stored(&dout, &table, RopePairing::HalfSplit, StorageRounding::Once)?;
/// assert_eq!(dx[[0, 0, 0, 1]], f16::from_f32(-1_f32.sin()));
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward_stored<S: Storage>(
    dout: &ArrayRef4<S>,
    table: &RopeTable,
    pairing: RopePairing,
    rounding: StorageRounding,
) -> Result<Array4<S>, PosencError> {
    into_new(dout, table, pairing, rounding, Direction::Backward)
}

/// [`backward_stored`] in place.
///
/// # Errors
///
/// As [`apply`](super::apply); `dout` is then unchanged.
pub fn backward_stored_inplace<S: Storage>(
    dout: &mut ArrayRef4<S>,
    table: &RopeTable,
    pairing: RopePairing,
    rounding: StorageRounding,
) -> Result<(), PosencError> {
    inplace(dout, table, pairing, rounding, Direction::Backward)
}

fn into_new<S: Storage>(
    x: &ArrayRef4<S>,
    table: &RopeTable,
    pairing: RopePairing,
    rounding: StorageRounding,
    direction: Direction,
) -> Result<Array4<S>, PosencError> {
    let zero = S::from_f32(0.0);
    match rounding {
        StorageRounding::Once => {
            rotate::into_new(x, zero, table, pairing, direction, turn_once(direction))
        }
        StorageRounding::EachOperation => {
            rotate::into_new(x, zero, table, pairing, direction, turn_each(direction))
        }
    }
}

fn inplace<S: Storage>(
    x: &mut ArrayRef4<S>,
    table: &RopeTable,
    pairing: RopePairing,
    rounding: StorageRounding,
    direction: Direction,
) -> Result<(), PosencError> {
    match rounding {
        StorageRounding::Once => {
            rotate::inplace(x, table, pairing, direction, turn_once(direction))
        }
        StorageRounding::EachOperation => {
            rotate::inplace(x, table, pairing, direction, turn_each(direction))
        }
    }
}

fn turn_once<S: Storage>(direction: Direction) -> impl rotate::Turn<S> {
    let sign = direction.sign();
    move |x1: S, x2: S, cos: f32, sin: f32| {
        let (y1, y2) = rotate::turn(x1.to_f32(), x2.to_f32(), cos, sign * sin);
        (S::from_f32(y1), S::from_f32(y2))
    }
}

/// A sum of two halves in `f32`, rounded again, is the half nearest to the sum: `f32` has more than
/// twice as many digits and two.
fn turn_each<S: Storage>(direction: Direction) -> impl rotate::Turn<S> {
    let sign = direction.sign();
    move |x1: S, x2: S, cos: f32, sin: f32| {
        let (x1, x2, sin) = (x1.to_f32(), x2.to_f32(), sign * sin);
        let product = |x: f32, y: f32| S::from_f32(x * y).to_f32();
        let y1 = product(x1, cos) - product(x2, sin);
        let y2 = product(x2, cos) + product(x1, sin);
        (S::from_f32(y1), S::from_f32(y2))
    }
}
