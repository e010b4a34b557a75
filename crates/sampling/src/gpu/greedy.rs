//! Greedy decoding on the GPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::draws::GpuDraws;
use super::rows::{Check, record_extent};
use super::{GpuLogits, GpuSamplingError, KEYS, WORKGROUP_SIZE, word};

llm_gpu::params! {
    /// The parameter block of `greedy.wgsl`.
    pub(super) struct GreedyParams {
        n_rows: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

pub(super) static GREEDY: Kernel = Kernel {
    name: "greedy",
    source: include_str!("greedy.wgsl"),
    snippets: &[snippet::LINEAR, KEYS],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<GreedyParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records the choice of the largest logit of each row; of equals, the lowest id: [`greedy::argmax`](crate::greedy::argmax).
///
/// ```text
/// token = min { i : x_i = max_j x_j }
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
/// - returns: `[batch]`
///
/// # Errors
///
/// [`GpuSamplingError::Gpu`] if the device has no room for the result.
///
/// Rows are refused with [`NanLogits`](crate::SamplingError::NanLogits), [`InfiniteLogits`](crate::SamplingError::InfiniteLogits),
/// [`MaskedRow`](crate::SamplingError::MaskedRow).
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, greedy};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[1.0_f32, 3.0, 3.0]])?;
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// let draws = greedy::argmax(&mut recorder, &logits)?;
/// recorder.submit()?;
/// assert_eq!(draws.download_blocking()?, [1]);
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
pub fn argmax(recorder: &mut Recorder, logits: &GpuLogits) -> Result<GpuDraws, GpuSamplingError> {
    let extent = record_extent(recorder, logits, Check::FiniteMax)?;
    record(recorder, logits, &extent)
}

/// [`argmax`] of rows whose extent is known.
pub(super) fn record(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    extent: &GpuTensor<u32>,
) -> Result<GpuDraws, GpuSamplingError> {
    let tokens = recorder.output::<u32>(&[logits.batch()])?;
    let params = GreedyParams {
        n_rows: word(logits.batch()),
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    let bindings = [extent.read(), logits.status().read(), tokens.write()];
    let grid = Grid::linear(logits.batch(), WORKGROUP_SIZE)?;
    recorder.dispatch(&GREEDY, &[], &params, &bindings, grid)?;
    Ok(GpuDraws::new(tokens, logits))
}
