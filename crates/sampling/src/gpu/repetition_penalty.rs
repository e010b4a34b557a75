//! Repetition penalty on the GPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::rows::{Check, record_extent};
use super::{
    GpuLogits, GpuSamplingError, KEYS, REAL, WIDE, WORKGROUP_SIZE, expect_shape, real, word,
};
use crate::repetition_penalty::{PenaltyWindow, RepetitionPenalty};

llm_gpu::params! {
    /// The parameter block of `repetition_penalty.wgsl`.
    pub(super) struct RepetitionPenaltyParams {
        penalty: [u32; 4],
        n_elements: u32,
        vocab: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(super) static REPETITION_PENALTY: Kernel = Kernel {
    name: "repetition_penalty",
    source: include_str!("repetition_penalty.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<RepetitionPenaltyParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records the repetition penalty on tokens that occurred: [`RepetitionPenalty`].
///
/// ```text
/// x_i <- x_i / penalty  where x_i > 0,   x_i penalty  else;   where counts_i > 0
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
/// - `counts`: `[batch, vocab]`, from [`history::count`](super::history::count)
///
/// # Errors
///
/// - [`SamplingError::RepetitionPenalty`](crate::SamplingError::RepetitionPenalty) if the penalty is not finite and above 0.
/// - [`GpuSamplingError::Shape`] if `counts` is not shaped as the logits.
/// - [`GpuSamplingError::Gpu`] if the device has no room for what is computed on the way, or the tensors are of different devices.
///
/// Rows are refused with [`NanLogits`](crate::SamplingError::NanLogits) if the logit of a token that occurred is NaN. They stay as they are.
///
/// # Precision
///
/// That of the CPU, bit for bit.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, history, repetition_penalty};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[3.0_f32, -2.0, 1.0]])?;
/// let tokens = gpu.upload(&array![[0_u32, 1, 1]])?; // token 1 occurred twice, and counts once
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// let counts = history::count(&mut recorder, &tokens, &[0..3], 3)?;
/// repetition_penalty::apply_inplace(&mut recorder, &logits, &counts, 2.0)?;
/// recorder.submit()?;
/// assert_eq!(x.download_blocking()?, array![[1.5, -4.0, 1.0]].into_dyn());
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`RepetitionPenalty`].
pub fn apply_inplace(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    counts: &GpuTensor<u32>,
    penalty: f64,
) -> Result<(), GpuSamplingError> {
    RepetitionPenalty::new(penalty, PenaltyWindow::All)?;
    expect_shape("counts", counts, logits.tensor().shape())?;
    record_extent(recorder, logits, Check::CountedNumbers(counts))?;
    let params = RepetitionPenaltyParams {
        penalty: real(penalty),
        n_elements: word(logits.tensor().len()),
        vocab: word(logits.vocab()),
        pad0: 0,
        pad1: 0,
    };
    let bindings = [
        counts.read(),
        logits.status().read(),
        logits.tensor().write(),
    ];
    let grid = Grid::linear(logits.tensor().len(), WORKGROUP_SIZE)?;
    recorder.dispatch(&REPETITION_PENALTY, &[], &params, &bindings, grid)?;
    Ok(())
}
