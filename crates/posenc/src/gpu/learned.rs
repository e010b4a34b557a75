//! Learned positions on the GPU: rows of a table, and the gradient of the table.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{WORKGROUP_SIZE, axes, expect_shape, word, words};
use crate::PosencError;

llm_gpu::params! {
    /// The parameter block of `learned.wgsl`.
    pub(super) struct LearnedParams {
        n_elements: u32,
        n_positions: u32,
        d_model: u32,
        pad0: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `learned_backward.wgsl`.
    pub(super) struct LearnedBackwardParams {
        n_elements: u32,
        n_tokens: u32,
        d_model: u32,
        pad0: u32,
    }
}

pub(super) static LEARNED: Kernel = Kernel {
    name: "learned",
    source: include_str!("learned.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<LearnedParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static LEARNED_BACKWARD: Kernel = Kernel {
    name: "learned_backward",
    source: include_str!("learned_backward.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<LearnedBackwardParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records the look-up of positions in a table: [`learned::embed`](crate::learned::embed).
///
/// ```text
/// y[b, t, :] = table[positions[b, t], :]
/// ```
///
/// # Shapes
///
/// - `table`: `[n_positions, d_model]`
/// - `positions`: `[batch, seq]`
/// - returns: `[batch, seq, d_model]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `table` or `positions` has not two axes.
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// Exact. The device cannot return an error: a position outside the table gives a row of NaN.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::learned as gpu_learned;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let table = gpu.upload(&ndarray::array![[0.0_f32, 0.5], [1.0, 1.5]])?; // [2, 2]
/// let positions = gpu.upload(&ndarray::array![[1_u32, 0, 1]])?; // [1, 3]
/// let mut recorder = gpu.recorder();
/// let y = gpu_learned::embed(&mut recorder, &table, &positions)?;
/// recorder.submit()?;
/// let want = ndarray::array![[[1.0, 1.5], [0.0, 0.5], [1.0, 1.5]]]; // [1, 3, 2]
/// assert_eq!(y.download_blocking()?, want.into_dyn());
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn embed(
    recorder: &mut Recorder,
    table: &GpuTensor<f32>,
    positions: &GpuTensor<u32>,
) -> Result<GpuTensor<f32>, PosencError> {
    let [n_positions, d_model] = axes(table)?;
    let [batch, seq] = axes(positions)?;
    let y = recorder.output::<f32>(&[batch, seq, d_model])?;
    let [_, _, d_model] = words([batch, seq, d_model])?;
    let params = LearnedParams {
        n_elements: word(y.len())?,
        // A table without elements may have any number of rows.
        n_positions: word(if table.is_empty() { 0 } else { n_positions })?,
        d_model,
        pad0: 0,
    };
    recorder.dispatch(
        &LEARNED,
        &[],
        &params,
        &[positions.read(), table.read(), y.write()],
        Grid::linear(y.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(y)
}

/// Records the gradient for the table of [`embed`]: each row gets the sum over the tokens that read it.
///
/// ```text
/// dtable[p, :] = sum over (b, t) with positions[b, t] = p of dout[b, t, :]
/// ```
///
/// # Shapes
///
/// - `dout`: `[batch, seq, d_model]`
/// - `positions`: `[batch, seq]`
/// - returns: `[n_positions, d_model]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `dout` has not three axes.
/// - [`PosencError::GpuShape`] if `dout` and `positions` differ in `batch` or `seq`.
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// f32 sums in the order of the tokens: the same bits each time. Positions outside the table count nowhere.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::learned as gpu_learned;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let dout = gpu.upload(&ndarray::array![[[1.0_f32], [2.0], [4.0]]])?; // [1, 3, 1]
/// let positions = gpu.upload(&ndarray::array![[1_u32, 0, 1]])?; // [1, 3]
/// let mut recorder = gpu.recorder();
/// let dtable = gpu_learned::backward(&mut recorder, &dout, &positions, 3)?;
/// recorder.submit()?;
/// assert_eq!(dtable.download_blocking()?, ndarray::array![[2.0], [5.0], [0.0]].into_dyn());
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    positions: &GpuTensor<u32>,
    n_positions: usize,
) -> Result<GpuTensor<f32>, PosencError> {
    let [batch, seq, d_model] = axes(dout)?;
    expect_shape(positions, &[batch, seq])?;
    let dtable = recorder.output::<f32>(&[n_positions, d_model])?;
    let [_, d_model] = words([n_positions, d_model])?;
    let params = LearnedBackwardParams {
        n_elements: word(dtable.len())?,
        n_tokens: word(positions.len())?,
        d_model,
        pad0: 0,
    };
    recorder.dispatch(
        &LEARNED_BACKWARD,
        &[],
        &params,
        &[positions.read(), dout.read(), dtable.write()],
        Grid::linear(dtable.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(dtable)
}
