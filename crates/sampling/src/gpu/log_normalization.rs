//! Log-softmax on the GPU.

use llm_gpu::{Access, Grid, Kernel, Needs, Recorder, snippet};

use super::rows::{Check, record_extent, record_mass};
use super::{GpuLogits, GpuSamplingError, KEYS, REAL, WEIGHT, WIDE, WORKGROUP_SIZE, word};

llm_gpu::params! {
    /// The parameter block of `log_normalization.wgsl`.
    pub(super) struct LogNormalizationParams {
        n_elements: u32,
        vocab: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(super) static LOG_NORMALIZATION: Kernel = Kernel {
    name: "log_normalization",
    source: include_str!("log_normalization.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, WEIGHT],
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params_size: size_of::<LogNormalizationParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records the log-softmax of each row: [`LogNormalization`](crate::log_normalization::LogNormalization).
///
/// ```text
/// x_i <- x_i - ln sum_j e^(x_j)
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
///
/// # Errors
///
/// [`GpuSamplingError::Gpu`] if the device has no room for what is computed on the way.
///
/// Rows are refused with [`NanLogits`](crate::SamplingError::NanLogits), [`InfiniteLogits`](crate::SamplingError::InfiniteLogits),
/// [`MaskedRow`](crate::SamplingError::MaskedRow). They stay as they are.
///
/// # Precision
///
/// The logarithm is right to `2^-28 + vocab 2^-44` (`1.3e-8` for 150,000 tokens): the second term is of weights that are rounded to units of
/// `2^-43`. Tokens more than 31 nats below the likeliest do not count in the sum. The difference is computed with the bits of `f64` and rounded
/// once.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, log_normalization};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[7.0_f32, 7.0, f32::NEG_INFINITY]])?;
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// log_normalization::apply_inplace(&mut recorder, &logits)?;
/// recorder.submit()?;
/// let half = 0.5_f32.ln();
/// assert_eq!(x.download_blocking()?, array![[half, half, f32::NEG_INFINITY]].into_dyn());
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`LogNormalization`](crate::log_normalization::LogNormalization).
pub fn apply_inplace(recorder: &mut Recorder, logits: &GpuLogits) -> Result<(), GpuSamplingError> {
    let extent = record_extent(recorder, logits, Check::FiniteMax)?;
    let mass = record_mass(recorder, logits, &extent)?;
    let params = LogNormalizationParams {
        n_elements: word(logits.tensor().len()),
        vocab: word(logits.vocab()),
        pad0: 0,
        pad1: 0,
    };
    let bindings = [
        extent.read(),
        mass.read(),
        logits.status().read(),
        logits.tensor().write(),
    ];
    let grid = Grid::linear(logits.tensor().len(), WORKGROUP_SIZE)?;
    recorder.dispatch(&LOG_NORMALIZATION, &[], &params, &bindings, grid)?;
    Ok(())
}
