//! The two-dimensional rotation of ChatGLM-6B on the GPU: two heads of half the size, with a table for both.

use llm_gpu::{Gpu, GpuTensor, Recorder};
use ndarray::{Array2, ArrayView2};

use super::axes;
use super::rope::{self, GpuRopeTable};
use crate::PosencError;
use crate::rope::chatglm::ChatGlmTable;
use crate::rope::{RopePairing, RopeTable};

/// The tables of both halves on the device, row beside row: a head `[seq, head_dim]` is `[2 seq, head_dim / 2]` in
/// memory, so one rotation with twice the rows turns both halves.
#[derive(Clone, Debug)]
pub struct GpuChatGlmTable {
    both: GpuRopeTable,
}

impl GpuChatGlmTable {
    /// Copies the tables to the device.
    ///
    /// # Errors
    ///
    /// [`PosencError::Gpu`] if the device has no room for them.
    pub fn upload(gpu: &Gpu, table: &ChatGlmTable) -> Result<Self, PosencError> {
        let (first, second) = (table.positions(), table.block_positions());
        let cos = alternate(first.cos(), second.cos());
        let sin = alternate(first.sin(), second.sin());
        let both = RopeTable::from_cos_sin(&cos, &sin)?;
        Ok(Self {
            both: GpuRopeTable::upload(gpu, &both)?,
        })
    }
}

/// Records [`chatglm::apply_v1`](crate::rope::chatglm::apply_v1).
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::ChatGlmHeadDim`] if the tables were made for another `head_dim`.
/// - As [`rope::apply`].
///
/// # Precision
///
/// As [`rope::apply`].
pub fn apply_v1(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuChatGlmTable,
) -> Result<GpuTensor<f32>, PosencError> {
    let y = rope::apply(recorder, &halves(x, table)?, &table.both, PAIRING)?;
    Ok(y.reshape(x.shape())?)
}

/// Records [`apply_v1`] in place.
///
/// # Errors
///
/// As [`apply_v1`]; nothing is recorded then.
pub fn apply_v1_inplace(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuChatGlmTable,
) -> Result<(), PosencError> {
    rope::apply_inplace(recorder, &halves(x, table)?, &table.both, PAIRING)
}

/// Records the gradient for `x` of [`apply_v1`].
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
/// As [`rope::apply`].
pub fn backward_v1(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    table: &GpuChatGlmTable,
) -> Result<GpuTensor<f32>, PosencError> {
    let dx = rope::backward(recorder, &halves(dout, table)?, &table.both, PAIRING)?;
    Ok(dx.reshape(dout.shape())?)
}

/// Records [`backward_v1`] in place.
///
/// # Errors
///
/// As [`apply_v1`]; nothing is recorded then.
pub fn backward_v1_inplace(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    table: &GpuChatGlmTable,
) -> Result<(), PosencError> {
    rope::backward_inplace(recorder, &halves(dout, table)?, &table.both, PAIRING)
}

const PAIRING: RopePairing = RopePairing::HalfSplit;

/// The same memory as `[batch, heads, 2 seq, head_dim / 2]`.
fn halves(x: &GpuTensor<f32>, table: &GpuChatGlmTable) -> Result<GpuTensor<f32>, PosencError> {
    let [batch, heads, seq, got] = axes(x)?;
    let half = match *table.both.cos().shape() {
        [_, n_planes] => 2 * n_planes,
        _ => 0,
    };
    if got != 2 * half {
        let expected = 2 * half;
        return Err(PosencError::ChatGlmHeadDim { expected, got });
    }
    Ok(x.reshape(&[batch, heads, 2 * seq, half])?)
}

/// The rows of both, one of each in turn.
fn alternate(first: ArrayView2<'_, f32>, second: ArrayView2<'_, f32>) -> Array2<f32> {
    let (rows, columns) = first.dim();
    Array2::from_shape_fn((2 * rows, columns), |(row, column)| {
        let half = if row % 2 == 0 { &first } else { &second };
        half[[row / 2, column]]
    })
}
