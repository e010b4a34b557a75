//! Sums along the diagonals of a bias gradient on the GPU: what T5 and KERPLE need of it.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{WORKGROUP_SIZE, axes, word};
use crate::PosencError;

llm_gpu::params! {
    /// The parameter block of `diagonal_sums.wgsl`.
    pub(super) struct DiagonalSumsParams {
        n_elements: u32,
        seq: u32,
        kv_seq: u32,
        pad0: u32,
    }
}

pub(super) static DIAGONAL_SUMS: Kernel = Kernel {
    name: "diagonal_sums",
    source: include_str!("diagonal_sums.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<DiagonalSumsParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// How many diagonals `[seq, kv_seq]` has.
pub(super) fn count(seq: usize, kv_seq: usize) -> usize {
    match (seq, kv_seq) {
        (0, _) | (_, 0) => 0,
        _ => seq + kv_seq - 1,
    }
}

/// Records the sums: `[heads, seq, kv_seq]` to `[heads, n_diagonals]`, a scratch tensor.
pub(super) fn sums(
    recorder: &mut Recorder,
    dbias: &GpuTensor<f32>,
) -> Result<GpuTensor<f32>, PosencError> {
    let [heads, seq, kv_seq] = axes(dbias)?;
    let y = recorder.scratch::<f32>(&[heads, count(seq, kv_seq)])?;
    let params = DiagonalSumsParams {
        n_elements: word(y.len())?,
        seq: word(seq)?,
        kv_seq: word(kv_seq)?,
        pad0: 0,
    };
    let grid = Grid::linear(y.len(), WORKGROUP_SIZE)?;
    recorder.dispatch(
        &DIAGONAL_SUMS,
        &[],
        &params,
        &[dbias.read(), y.write()],
        grid,
    )?;
    Ok(y)
}
