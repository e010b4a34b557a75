//! The rotations of `ChatGLM`: two halves of a head in the first version, half of it in the second and third.

use ndarray::{Array2, Array4, ArrayRef2, ArrayRef4, s};

use super::{MAX_ROTARY_DIM, RopeConfig, RopePairing, RopeTable, inv_freq};
use crate::PosencError;
use crate::memory::check_size;
use llm_numerics::Float;

/// The settings of `ChatGLM2`, `ChatGLM3` and GLM-4: the first half of each head turns, in interleaved pairs.
///
/// Later checkpoints multiply the base, see [`RopeConfig::with_rope_ratio`]. The model's
/// own code rounds cosines and sines to its type, see [`RopeTable::rounded`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{RopePairing, chatglm};
///
/// let config = chatglm::config_v2(128).with_rope_ratio(500.0); // glm-4-9b-chat
/// assert_eq!((config.rotary_dim, config.base), (64, 5e6));
/// assert_eq!(config.pairing, RopePairing::Interleaved);
/// ```
///
/// Source: `modeling_chatglm.py` of `THUDM/chatglm2-6b` and `THUDM/glm-4-9b-chat`; `models.glm` of transformers 5.23.
#[must_use]
pub const fn config_v2(head_dim: usize) -> RopeConfig {
    RopeConfig::new(head_dim / 2, RopePairing::Interleaved)
}

/// Positions and block positions of `ChatGLM-6B` for one sequence.
///
/// The first `context` tokens are the prompt. What follows fills the place of the mask token:
///
/// ```text
/// token           0  1 ..  context - 1 | context  context + 1 ..
/// position        0  1 ..  context - 1 |    mask         mask ..
/// block position  0  0 ..            0 |       1            2 ..
/// ```
///
/// # Shapes
///
/// - returns: positions and block positions, each `[1, seq]`
///
/// # Errors
///
/// - [`PosencError::MaskPosition`] if the mask is not inside the context.
/// - [`PosencError::TooLarge`] if the result does not fit into memory.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::chatglm;
/// use ndarray::array;
///
/// // two words, [gMASK], start, three generated tokens
/// let (positions, block_positions) = chatglm::positions_v1(3, 2, 7)?;
/// assert_eq!(positions, array![[0, 1, 2, 2, 2, 2, 2]]);
/// assert_eq!(block_positions, array![[0, 0, 0, 1, 2, 3, 4]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `get_position_ids` in `modeling_chatglm.py` of `THUDM/chatglm-6b` with `position_encoding_2d`.
pub fn positions_v1(
    context: usize,
    mask: usize,
    seq: usize,
) -> Result<(Array2<usize>, Array2<usize>), PosencError> {
    if mask >= context {
        return Err(PosencError::MaskPosition { context, got: mask });
    }
    check_size::<[usize; 2]>(1, seq)?;
    let positions = Array2::from_shape_fn((1, seq), |(_, t)| if t < context { t } else { mask });
    let blocks = Array2::from_shape_fn((1, seq), |(_, t)| (t + 1).saturating_sub(context));
    Ok((positions, blocks))
}

/// The tables of `ChatGLM-6B`: one for each half of a head.
///
/// Invariant: both have the same number of rows and of planes.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatGlmTable {
    positions: RopeTable,
    block_positions: RopeTable,
}

impl ChatGlmTable {
    /// Tables of base 10 000 over `head_dim / 2` features for both halves.
    ///
    /// # Shapes
    ///
    /// - `positions`, `block_positions`: `[batch, seq]`, as [`positions_v1`] makes them for each sequence;
    ///   `[1, seq]` serves any batch
    ///
    /// # Errors
    ///
    /// - [`PosencError::HeadDim`] if `head_dim` is zero, not a multiple of four, or above twice [`MAX_ROTARY_DIM`].
    /// - [`PosencError::PositionShapes`] if the shapes differ.
    /// - As [`RopeTable::for_batch`].
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::chatglm::{self, ChatGlmTable};
    ///
    /// let (positions, block_positions) = chatglm::positions_v1(3, 2, 6)?;
    /// let table = ChatGlmTable::new(128, &positions, &block_positions)?;
    /// assert_eq!(table.positions().rotary_dim(), 64); // half of the head
    /// assert_eq!(table.block_positions().rows(), 6);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn new(
        head_dim: usize,
        positions: &ArrayRef2<usize>,
        block_positions: &ArrayRef2<usize>,
    ) -> Result<Self, PosencError> {
        let (multiple, max) = (4, 2 * MAX_ROTARY_DIM);
        if !head_dim.is_multiple_of(multiple) || !(multiple..=max).contains(&head_dim) {
            let got = head_dim;
            return Err(PosencError::HeadDim { multiple, max, got });
        }
        if positions.dim() != block_positions.dim() {
            return Err(PosencError::PositionShapes {
                positions: positions.dim().into(),
                block_positions: block_positions.dim().into(),
            });
        }
        let inv_freq = inv_freq(&RopeConfig::new(head_dim / 2, RopePairing::HalfSplit))?;
        Ok(Self {
            positions: RopeTable::for_batch(&inv_freq, positions, 1.0)?,
            block_positions: RopeTable::for_batch(&inv_freq, block_positions, 1.0)?,
        })
    }

    /// The table of the first half of each head: half-split pairs `(i, i + head_dim / 4)`.
    #[must_use]
    pub const fn positions(&self) -> &RopeTable {
        &self.positions
    }

    /// The table of the second half of each head.
    #[must_use]
    pub const fn block_positions(&self) -> &RopeTable {
        &self.block_positions
    }
}

/// Rotates the first half of each head by the positions, the second by the block positions.
///
/// Each half is a head of its own with half-split pairs: features `i` and `i + head_dim / 4`
/// of the head, and those `head_dim / 2` further on.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::ChatGlmHeadDim`] if the tables were made for another `head_dim`.
/// - As [`apply`](super::apply).
///
/// # Precision
///
/// As [`apply`](super::apply).
///
/// # Example
///
/// ```
/// use llm_posenc::rope::chatglm::{self, ChatGlmTable};
/// use ndarray::{Array4, s};
///
/// let (positions, block_positions) = chatglm::positions_v1(3, 2, 6)?;
/// let table = ChatGlmTable::new(8, &positions, &block_positions)?;
/// let q = chatglm::apply_v1(&Array4::<f32>::ones((1, 2, 6, 8)), &table)?;
/// // In the prompt only the first half turns, behind it only the second.
/// assert_eq!(q.slice(s![0, 0, 1, 4..]), ndarray::array![1.0, 1.0, 1.0, 1.0]);
/// assert_eq!(q.slice(s![0, 0, 3, ..4]), q.slice(s![0, 0, 5, ..4]));
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `SelfAttention.forward` in `modeling_chatglm.py` of `THUDM/chatglm-6b` with `position_encoding_2d`.
pub fn apply_v1<F: Float>(
    x: &ArrayRef4<F>,
    table: &ChatGlmTable,
) -> Result<Array4<F>, PosencError> {
    check(x, table)?;
    let mut y = x.to_owned();
    apply_v1_inplace(&mut y, table)?;
    Ok(y)
}

/// [`apply_v1`] in place.
///
/// # Errors
///
/// As [`apply_v1`]; `x` is then unchanged.
pub fn apply_v1_inplace<F: Float>(
    x: &mut ArrayRef4<F>,
    table: &ChatGlmTable,
) -> Result<(), PosencError> {
    both_halves(x, table, super::apply_inplace)
}

/// The gradient for `x` of [`apply_v1`].
///
/// # Shapes
///
/// - `dout`: `[batch, heads, seq, head_dim]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// As [`apply_v1`].
///
/// # Precision
///
/// As [`apply`](super::apply).
///
/// # Example
///
/// ```
/// use llm_posenc::rope::chatglm::{self, ChatGlmTable};
/// use ndarray::{Array4, array};
///
/// let table = ChatGlmTable::new(8, &array![[2]], &array![[1]])?;
/// let q = Array4::<f64>::ones((1, 1, 1, 8));
/// let back = chatglm::backward_v1(&chatglm::apply_v1(&q, &table)?, &table)?;
/// assert!((back - q).iter().all(|x| x.abs() < 1e-6)); // the gradient of a rotation undoes it
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward_v1<F: Float>(
    dout: &ArrayRef4<F>,
    table: &ChatGlmTable,
) -> Result<Array4<F>, PosencError> {
    check(dout, table)?;
    let mut dx = dout.to_owned();
    backward_v1_inplace(&mut dx, table)?;
    Ok(dx)
}

/// [`backward_v1`] in place.
///
/// # Errors
///
/// As [`apply_v1`]; `dout` is then unchanged.
pub fn backward_v1_inplace<F: Float>(
    dout: &mut ArrayRef4<F>,
    table: &ChatGlmTable,
) -> Result<(), PosencError> {
    both_halves(dout, table, super::backward_inplace)
}

fn check<F>(x: &ArrayRef4<F>, table: &ChatGlmTable) -> Result<(), PosencError> {
    let (batch, heads, seq, got) = x.dim();
    let expected = 2 * table.positions.rotary_dim();
    if got != expected {
        return Err(PosencError::ChatGlmHeadDim { expected, got });
    }
    let rows = if got == 0 { 0 } else { batch * heads * seq };
    check_size::<F>(rows, got)
}

type Rotate<F> = fn(&mut ArrayRef4<F>, &RopeTable, RopePairing) -> Result<(), PosencError>;

fn both_halves<F: Float>(
    x: &mut ArrayRef4<F>,
    table: &ChatGlmTable,
    rotate: Rotate<F>,
) -> Result<(), PosencError> {
    let (_, _, _, got) = x.dim();
    let half = table.positions.rotary_dim();
    if got != 2 * half {
        let expected = 2 * half;
        return Err(PosencError::ChatGlmHeadDim { expected, got });
    }
    // Both tables have as many rows, so the second cannot fail where the first did not.
    let mut first = x.slice_mut(s![.., .., .., ..half]);
    rotate(&mut first, &table.positions, RopePairing::HalfSplit)?;
    let mut second = x.slice_mut(s![.., .., .., half..]);
    rotate(&mut second, &table.block_positions, RopePairing::HalfSplit)
}
