//! How often tokens occurred, on the GPU: what the penalties need.

use core::ops::Range;

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{GpuSamplingError, WORKGROUP_SIZE, axes, check_vocab, clear, word};

llm_gpu::params! {
    /// The parameter block of `history_count.wgsl`.
    pub(super) struct HistoryCountParams {
        n_elements: u32,
        length: u32,
        vocab: u32,
        pad0: u32,
    }
}

pub(super) static HISTORY_COUNT: Kernel = Kernel {
    name: "history_count",
    source: include_str!("history_count.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<HistoryCountParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records how often each token occurs in a window of each row of tokens.
///
/// ```text
/// counts[r, i] = number of j in windows[r] with tokens[r, j] = i
/// ```
///
/// Rows of different lengths lie side by side in one tensor; what is outside the window does not count. So `0..len` is
/// [`PenaltyWindow::All`](crate::repetition_penalty::PenaltyWindow::All), `prompt_len..len`
/// [`Generated`](crate::repetition_penalty::PenaltyWindow::Generated). Ids that the vocabulary does not have are passed over, as on the CPU.
///
/// # Shapes
///
/// - `tokens`: `[batch, length]`
/// - `windows`: `[batch]`
/// - returns: `[batch, vocab]`
///
/// # Errors
///
/// - [`GpuSamplingError::Rank`] if `tokens` has not two axes, [`GpuSamplingError::PerRow`] if there is not one window for each row.
/// - [`GpuSamplingError::Window`] if a window is not in `0..length`.
/// - [`SamplingError::Vocab`](crate::SamplingError::Vocab) if `vocab` is 0, [`GpuSamplingError::Vocab`] if it is above [`MAX_VOCAB`](super::MAX_VOCAB).
/// - [`GpuSamplingError::Gpu`] if the device has no room for the result, or the tensor is of another device.
///
/// # Precision
///
/// Exact: counts are added up as integers, in whatever order.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::history;
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let tokens = gpu.upload(&array![[2_u32, 0, 2], [1, 1, 1]])?; // [batch, length]
/// let mut recorder = gpu.recorder();
/// let counts = history::count(&mut recorder, &tokens, &[0..3, 1..2], 3)?;
/// recorder.submit()?;
/// assert_eq!(counts.download_blocking()?, array![[1, 0, 2], [0, 1, 0]].into_dyn());
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
pub fn count(
    recorder: &mut Recorder,
    tokens: &GpuTensor<u32>,
    windows: &[Range<usize>],
    vocab: usize,
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    let [batch, length] = axes("tokens", tokens)?;
    check_vocab(vocab)?;
    if windows.len() != batch {
        return Err(GpuSamplingError::PerRow {
            name: "windows",
            expected: batch,
            got: windows.len(),
        });
    }
    for (row, &Range { start, end }) in windows.iter().enumerate() {
        if start > end || end > length {
            return Err(GpuSamplingError::Window {
                row,
                length,
                start,
                end,
            });
        }
    }
    let counts = clear::zeros(recorder, &[batch, vocab])?;
    if tokens.is_empty() {
        return Ok(counts);
    }
    let bounds: Vec<u32> = windows
        .iter()
        .flat_map(|window| [word(window.start), word(window.end)])
        .collect();
    let bounds = recorder.gpu().upload_slice(&[batch, 2], &bounds)?;
    let params = HistoryCountParams {
        n_elements: word(tokens.len()),
        length: word(length),
        vocab: word(vocab),
        pad0: 0,
    };
    recorder.dispatch(
        &HISTORY_COUNT,
        &[],
        &params,
        &[tokens.read(), bounds.read(), counts.write()],
        Grid::linear(tokens.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(counts)
}
