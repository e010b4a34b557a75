//! Min-p on the GPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::radix::{Goal, RADIX, Search};
use super::rows::{Check, record_extent};
use super::{GpuLogits, GpuSamplingError, KEYS, REAL, WIDE, WORKGROUP_SIZE, real, word};
use crate::min_p::MinP;

llm_gpu::params! {
    /// The parameter block of `min_p.wgsl`.
    pub(super) struct MinPParams {
        logarithm: [u32; 4],
        n_rows: u32,
        has_floor: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(super) static MIN_P: Kernel = Kernel {
    name: "min_p",
    source: include_str!("min_p.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, RADIX],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<MinPParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records that tokens are masked whose probability is below a share of the largest one: [`MinP`].
///
/// ```text
/// x_i <- -inf  where x_i < max_j x_j + ln min_p
/// ```
///
/// At least `min_tokens_to_keep` tokens stay, the likeliest ones; of equals at that edge, all.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
///
/// # Errors
///
/// - [`SamplingError::MinP`](crate::SamplingError::MinP) if `min_p` is not in `[0, 1]`.
/// - [`SamplingError::MinTokensToKeep`](crate::SamplingError::MinTokensToKeep) if that is 0.
/// - [`GpuSamplingError::Gpu`] if the device has no room for what is computed on the way.
///
/// Rows are refused with [`NanLogits`](crate::SamplingError::NanLogits), [`InfiniteLogits`](crate::SamplingError::InfiniteLogits),
/// [`MaskedRow`](crate::SamplingError::MaskedRow). They stay as they are.
///
/// # Precision
///
/// That of the CPU: the same tokens stay, with the same bits.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, min_p};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[0.0_f32, -0.7, -1.4]])?; // likely, half as likely, a quarter
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// min_p::apply_inplace(&mut recorder, &logits, 0.4, 1)?;
/// recorder.submit()?;
/// assert_eq!(x.download_blocking()?, array![[0.0, -0.7, MASKED]].into_dyn());
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`MinP`].
pub fn apply_inplace(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    min_p: f64,
    min_tokens_to_keep: usize,
) -> Result<(), GpuSamplingError> {
    MinP::new(min_p, min_tokens_to_keep)?;
    let extent = record_extent(recorder, logits, Check::FiniteMax)?;
    record(recorder, logits, &extent, min_p, min_tokens_to_keep)
}

/// [`apply_inplace`] on rows whose extent is known.
pub(super) fn record(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    extent: &GpuTensor<u32>,
    min_p: f64,
    min_tokens_to_keep: usize,
) -> Result<(), GpuSamplingError> {
    if min_p == 0.0 {
        return Ok(());
    }
    let search = Search::new(recorder, logits, extent)?;
    let has_floor = min_tokens_to_keep > 1;
    if has_floor {
        let least = min_tokens_to_keep.min(logits.vocab());
        search.find(recorder, Goal::Number(least))?;
    }
    let params = MinPParams {
        logarithm: real(min_p.ln()),
        n_rows: word(logits.batch()),
        has_floor: u32::from(has_floor),
        pad0: 0,
        pad1: 0,
    };
    let bindings = [
        extent.read(),
        logits.status().read(),
        search.state().write(),
    ];
    let grid = Grid::linear(logits.batch(), WORKGROUP_SIZE)?;
    recorder.dispatch(&MIN_P, &[], &params, &bindings, grid)?;
    search.keep(recorder)
}
