//! Tensors of zeros.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{GpuSamplingError, WORKGROUP_SIZE, word};

llm_gpu::params! {
    /// The parameter block of `clear.wgsl`.
    pub(super) struct ClearParams {
        n_words: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

pub(super) static CLEAR: Kernel = Kernel {
    name: "clear",
    source: include_str!("clear.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Write],
    params_size: size_of::<ClearParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records a tensor of zeros, which kernels add to or note something in.
pub(super) fn zeros(
    recorder: &mut Recorder,
    shape: &[usize],
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    let words = recorder.output::<u32>(shape)?;
    let params = ClearParams {
        n_words: word(words.len()),
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    let grid = Grid::linear(words.len(), WORKGROUP_SIZE)?;
    recorder.dispatch(&CLEAR, &[], &params, &[words.write()], grid)?;
    Ok(words)
}
