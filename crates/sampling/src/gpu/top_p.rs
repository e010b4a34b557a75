//! Top-p (nucleus) on the GPU.

use llm_gpu::{GpuTensor, Recorder};

use super::radix::{Goal, Search, TieRule};
use super::rows::{Check, record_extent, record_mass};
use super::{GpuLogits, GpuSamplingError};
use crate::top_p::{SumFrom, TopP};

/// Records that all but the smallest set of tokens with probability `p` is masked:
/// [`top_p::apply_sum_inplace`](crate::top_p::apply_sum_inplace).
///
/// ```text
/// Smallest: q = softmax(x), in ascending order (equals by ascending id)
///           x_i <- -inf  where q_1 + .. + q_i <= 1 - p, but for the last min_tokens_to_keep
/// Largest:  q = softmax(x), in descending order (equals by ascending id)
///           x_i <- -inf  where q_1 + .. + q_(i-1) >= p, but for the first min_tokens_to_keep
/// ```
///
/// The logit at which the sum reaches its bound is found by its bits, eight at a time, from the weights of the logits that share those before.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
///
/// # Errors
///
/// - [`SamplingError::TopP`](crate::SamplingError::TopP) if `p` is not in `(0, 1]`.
/// - [`SamplingError::MinTokensToKeep`](crate::SamplingError::MinTokensToKeep) if that is 0.
/// - [`GpuSamplingError::Gpu`] if the device has no room for what is computed on the way.
///
/// Rows are refused with [`NanLogits`](crate::SamplingError::NanLogits), [`InfiniteLogits`](crate::SamplingError::InfiniteLogits),
/// [`MaskedRow`](crate::SamplingError::MaskedRow). They stay as they are.
///
/// # Precision
///
/// Weights `e^(x_i - max)` are right to `2^-28` of themselves and to `2^-44`; their sums are exact, in any order. So a token is kept or dropped
/// rightly unless its cumulative probability is within `2^-27 + vocab 2^-44` of the bound (`1.6e-8` for 150,000 tokens, `6.7e-8` for `2^20`). The CPU keeps the
/// same tokens unless one is within `1e-6` of it. Logits that stay are unchanged.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, top_p};
/// use llm_sampling::top_p::SumFrom;
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[5.0_f32, 5.0, 5.0, 5.0]])?;
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// top_p::apply_inplace(&mut recorder, &logits, 0.4, SumFrom::Largest, 1)?;
/// recorder.submit()?;
/// assert_eq!(x.download_blocking()?, array![[5.0, 5.0, MASKED, MASKED]].into_dyn());
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`top_p::apply_inplace`](crate::top_p::apply_inplace).
pub fn apply_inplace(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    p: f64,
    sum_from: SumFrom,
    min_tokens_to_keep: usize,
) -> Result<(), GpuSamplingError> {
    TopP::new(p, sum_from, min_tokens_to_keep)?;
    let extent = record_extent(recorder, logits, Check::FiniteMax)?;
    record(recorder, logits, &extent, p, sum_from, min_tokens_to_keep)
}

/// [`apply_inplace`] on rows whose extent is known.
pub(super) fn record(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    extent: &GpuTensor<u32>,
    p: f64,
    sum_from: SumFrom,
    min_tokens_to_keep: usize,
) -> Result<(), GpuSamplingError> {
    if p == 1.0 {
        return Ok(());
    }
    let mass = record_mass(recorder, logits, extent)?;
    let search = Search::new(recorder, logits, extent)?;
    let mut least = 0;
    if min_tokens_to_keep > 1 {
        least = min_tokens_to_keep.min(logits.vocab());
        search.find(recorder, Goal::Number(least))?;
        search.settle(recorder, TieRule::Floor, 0)?;
    }
    let (goal, rule) = match sum_from {
        // A share above 0, however small, needs a token.
        SumFrom::Largest => (Goal::Largest(share(p).max(1), &mass), TieRule::Largest),
        SumFrom::Smallest => (Goal::Smallest(share(1.0 - p), &mass), TieRule::Smallest),
    };
    search.find(recorder, goal)?;
    search.settle(recorder, rule, least)?;
    search.keep(recorder)
}

/// A number in `[0, 1)` in units of `2^-64`.
pub(super) fn share(x: f64) -> u64 {
    (x * 18_446_744_073_709_551_616.0) as u64 // saturates
}
