//! Presence and frequency penalties on the GPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::rows::{Check, record_extent};
use super::{
    GpuLogits, GpuSamplingError, KEYS, REAL, WIDE, WORKGROUP_SIZE, expect_shape, real, word,
};
use crate::presence_frequency::PresenceFrequency;
use crate::repetition_penalty::PenaltyWindow;

llm_gpu::params! {
    /// The parameter block of `presence_frequency.wgsl`.
    pub(super) struct PresenceFrequencyParams {
        presence: [u32; 4],
        frequency: [u32; 4],
        n_elements: u32,
        vocab: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(super) static PRESENCE_FREQUENCY: Kernel = Kernel {
    name: "presence_frequency",
    source: include_str!("presence_frequency.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<PresenceFrequencyParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records what is taken off the logits of tokens that occurred: [`PresenceFrequency`].
///
/// ```text
/// x_i <- x_i - (counts_i frequency + presence)   where counts_i > 0
/// ```
///
/// Infinite logits stay as they are.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
/// - `counts`: `[batch, vocab]`, from [`history::count`](super::history::count)
///
/// # Errors
///
/// - [`SamplingError::PresencePenalty`](crate::SamplingError::PresencePenalty),
///   [`SamplingError::FrequencyPenalty`](crate::SamplingError::FrequencyPenalty) if one is not finite.
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
/// use llm_sampling::gpu::{GpuLogits, history, presence_frequency};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[3.0_f32, -2.0, 1.0]])?;
/// let tokens = gpu.upload(&array![[0_u32, 1, 1]])?; // a prompt of one token, two that were made
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// let counts = history::count(&mut recorder, &tokens, &[1..3], 3)?;
/// presence_frequency::apply_inplace(&mut recorder, &logits, &counts, 0.5, 0.25)?;
/// recorder.submit()?;
/// assert_eq!(x.download_blocking()?, array![[3.0, -3.0, 1.0]].into_dyn());
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`PresenceFrequency`].
pub fn apply_inplace(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    counts: &GpuTensor<u32>,
    presence: f64,
    frequency: f64,
) -> Result<(), GpuSamplingError> {
    PresenceFrequency::new(presence, frequency, PenaltyWindow::All)?;
    expect_shape("counts", counts, logits.tensor().shape())?;
    record_extent(recorder, logits, Check::CountedNumbers(counts))?;
    let params = PresenceFrequencyParams {
        presence: real(presence),
        frequency: real(frequency),
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
    recorder.dispatch(&PRESENCE_FREQUENCY, &[], &params, &bindings, grid)?;
    Ok(())
}
