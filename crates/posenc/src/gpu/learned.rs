//! Learned positions on the GPU: rows of a table, and the gradient of the table.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{WORKGROUP_SIZE, axes, expect_shape, word};
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
pub fn embed(
    recorder: &mut Recorder,
    table: &GpuTensor<f32>,
    positions: &GpuTensor<u32>,
) -> Result<GpuTensor<f32>, PosencError> {
    let [n_positions, d_model] = axes(table)?;
    let [batch, seq] = axes(positions)?;
    let y = recorder.output::<f32>(&[batch, seq, d_model])?;
    let params = LearnedParams {
        n_elements: word(y.len())?,
        n_positions: word(n_positions)?,
        d_model: word(d_model)?,
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
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    positions: &GpuTensor<u32>,
    n_positions: usize,
) -> Result<GpuTensor<f32>, PosencError> {
    let [batch, seq, d_model] = axes(dout)?;
    expect_shape(positions, &[batch, seq])?;
    let dtable = recorder.output::<f32>(&[n_positions, d_model])?;
    let params = LearnedBackwardParams {
        n_elements: word(dtable.len())?,
        n_tokens: word(positions.len())?,
        d_model: word(d_model)?,
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
