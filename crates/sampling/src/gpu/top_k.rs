//! Top-k on the GPU.

use llm_gpu::{GpuTensor, Recorder};

use super::radix::{Goal, Search, TieRule};
use super::rows::{Check, record_extent};
use super::{GpuLogits, GpuSamplingError};
use crate::top_k::{Ties, TopK};

/// Records that all but the `k` largest logits of each row are masked: [`top_k::apply_inplace`](crate::top_k::apply_inplace).
///
/// ```text
/// k' = max(k, min_tokens_to_keep)
/// x_i <- -inf  where x_i < the k'-th largest x
/// ```
///
/// The k-th largest is found by its bits, eight at a time, from counts of the logits that share those before.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
///
/// # Errors
///
/// - [`SamplingError::TopK`](crate::SamplingError::TopK) if `k` is 0,
///   [`SamplingError::MinTokensToKeep`](crate::SamplingError::MinTokensToKeep) if that is 0.
/// - [`GpuSamplingError::Gpu`] if the device has no room for what is computed on the way.
///
/// Rows are refused with [`NanLogits`](crate::SamplingError::NanLogits). They stay as they are.
///
/// # Precision
///
/// That of the CPU: the same tokens stay, with the same bits.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, top_k};
/// use llm_sampling::top_k::Ties;
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[1.0_f32, 3.0, 2.0, 2.0]])?;
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// top_k::apply_inplace(&mut recorder, &logits, 2, Ties::Exact, 1)?;
/// recorder.submit()?;
/// assert_eq!(x.download_blocking()?, array![[MASKED, 3.0, 2.0, MASKED]].into_dyn());
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`top_k::apply_inplace`](crate::top_k::apply_inplace).
pub fn apply_inplace(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    k: usize,
    ties: Ties,
    min_tokens_to_keep: usize,
) -> Result<(), GpuSamplingError> {
    TopK::new(k, ties, min_tokens_to_keep)?;
    let extent = record_extent(recorder, logits, Check::Numbers)?;
    record(recorder, logits, &extent, k.max(min_tokens_to_keep), ties)
}

/// [`apply_inplace`] on rows whose extent is known.
pub(super) fn record(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    extent: &GpuTensor<u32>,
    k: usize,
    ties: Ties,
) -> Result<(), GpuSamplingError> {
    if k >= logits.vocab() {
        return Ok(());
    }
    let search = Search::new(recorder, logits, extent)?;
    search.find(recorder, Goal::Number(k))?;
    if ties == Ties::Exact {
        search.settle(recorder, TieRule::Exact, 0)?;
    }
    search.keep(recorder)
}
