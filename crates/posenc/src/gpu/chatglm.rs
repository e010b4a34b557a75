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
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::gpu::chatglm::GpuChatGlmTable;
    /// use llm_posenc::rope::chatglm::{self, ChatGlmTable};
    ///
    /// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
    /// let (positions, blocks) = chatglm::positions_v1(4, 2, 6)?; // 4 tokens of context, the mask at 2
    /// let table = ChatGlmTable::new(128, &positions, &blocks)?;
    /// let table = GpuChatGlmTable::upload(&gpu, &table)?;
    /// # let _ = table;
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
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
/// - [`PosencError::TooLarge`] if `2 * seq` rows cannot be counted.
/// - As [`rope::apply`].
///
/// # Precision
///
/// As [`rope::apply`].
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::chatglm::{self as gpu_chatglm, GpuChatGlmTable};
/// use llm_posenc::rope::chatglm::ChatGlmTable;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let table = ChatGlmTable::new(4, &ndarray::array![[1]], &ndarray::array![[0]])?;
/// let table = GpuChatGlmTable::upload(&gpu, &table)?;
/// let x = gpu.upload(&ndarray::array![[[[1.0_f32, 0.0, 3.0, 4.0]]]])?; // [1, 1, 1, 4]
/// let mut recorder = gpu.recorder();
/// let y = gpu_chatglm::apply_v1(&mut recorder, &x, &table)?;
/// recorder.submit()?;
/// let y = y.download_blocking()?;
/// assert!((y[[0, 0, 0, 0]] - 1_f32.cos()).abs() < 1e-6); // the first half at position 1
/// assert_eq!(y[[0, 0, 0, 2]], 3.0); // the second at block position 0
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
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
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::chatglm::{self as gpu_chatglm, GpuChatGlmTable};
/// use llm_posenc::rope::chatglm::ChatGlmTable;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let table = ChatGlmTable::new(4, &ndarray::array![[1]], &ndarray::array![[0]])?;
/// let table = GpuChatGlmTable::upload(&gpu, &table)?;
/// let x = gpu.upload(&ndarray::array![[[[1.0_f32, 0.0, 3.0, 4.0]]]])?; // [1, 1, 1, 4]
/// let mut recorder = gpu.recorder();
/// gpu_chatglm::apply_v1_inplace(&mut recorder, &x, &table)?;
/// recorder.submit()?;
/// assert!((x.download_blocking()?[[0, 0, 0, 1]] - 1_f32.sin()).abs() < 1e-6);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
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
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::chatglm::{self as gpu_chatglm, GpuChatGlmTable};
/// use llm_posenc::rope::chatglm::ChatGlmTable;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let table = ChatGlmTable::new(4, &ndarray::array![[1]], &ndarray::array![[0]])?;
/// let table = GpuChatGlmTable::upload(&gpu, &table)?;
/// let dout = gpu.upload(&ndarray::array![[[[1.0_f32, 0.0, 3.0, 4.0]]]])?; // [1, 1, 1, 4]
/// let mut recorder = gpu.recorder();
/// let dx = gpu_chatglm::backward_v1(&mut recorder, &dout, &table)?;
/// recorder.submit()?;
/// assert!((dx.download_blocking()?[[0, 0, 0, 1]] + 1_f32.sin()).abs() < 1e-6);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
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
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::chatglm::{self as gpu_chatglm, GpuChatGlmTable};
/// use llm_posenc::rope::chatglm::ChatGlmTable;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let table = ChatGlmTable::new(4, &ndarray::array![[1]], &ndarray::array![[0]])?;
/// let table = GpuChatGlmTable::upload(&gpu, &table)?;
/// let x = gpu.upload(&ndarray::array![[[[1.0_f32, 0.0, 3.0, 4.0]]]])?; // [1, 1, 1, 4]
/// let mut recorder = gpu.recorder();
/// gpu_chatglm::apply_v1_inplace(&mut recorder, &x, &table)?;
/// gpu_chatglm::backward_v1_inplace(&mut recorder, &x, &table)?;
/// recorder.submit()?;
/// assert!((x.download_blocking()?[[0, 0, 0, 0]] - 1.0).abs() < 1e-6);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
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
    // A tensor without elements may have an axis of any length.
    let rows = seq.checked_mul(2).ok_or(PosencError::TooLarge {
        rows: seq,
        columns: got,
    })?;
    Ok(x.reshape(&[batch, heads, rows, half])?)
}

/// The rows of both, one of each in turn.
fn alternate(first: ArrayView2<'_, f32>, second: ArrayView2<'_, f32>) -> Array2<f32> {
    let (rows, columns) = first.dim();
    Array2::from_shape_fn((2 * rows, columns), |(row, column)| {
        let half = if row % 2 == 0 { &first } else { &second };
        half[[row / 2, column]]
    })
}
