//! Temperature on the GPU.

use llm_gpu::{Access, Grid, Kernel, Needs, Recorder, snippet};

use super::rows::{Check, record_extent};
use super::{GpuLogits, GpuSamplingError, KEYS, REAL, WIDE, WORKGROUP_SIZE, real, word};
use crate::temperature::validate;

llm_gpu::params! {
    /// The parameter block of `temperature.wgsl`.
    pub(super) struct TemperatureParams {
        divisor: [u32; 4],
        n_elements: u32,
        vocab: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(super) static TEMPERATURE: Kernel = Kernel {
    name: "temperature",
    source: include_str!("temperature.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<TemperatureParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records the division of logits by the temperature: the processor [`Temperature`](crate::temperature::Temperature).
///
/// ```text
/// x_i <- x_i / T
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
///
/// # Errors
///
/// - [`SamplingError::Temperature`](crate::SamplingError::Temperature) if the temperature is not finite and above zero.
/// - [`GpuSamplingError::Gpu`] if the device has no room for what is computed on the way.
///
/// Rows are refused with [`NanLogits`](crate::SamplingError::NanLogits) and with
/// [`TemperatureOverflow`](crate::SamplingError::TemperatureOverflow) if the largest logit is finite and would become infinite. They stay as they are.
///
/// # Precision
///
/// That of the CPU, bit for bit: the quotient is computed with the bits of `f64` and rounded once.
///
/// # Example
///
/// See [`GpuLogits`].
pub fn apply_inplace(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    temperature: f64,
) -> Result<(), GpuSamplingError> {
    validate(temperature)?;
    record_extent(recorder, logits, Check::Divisible(temperature))?;
    if temperature == 1.0 {
        return Ok(());
    }
    let params = TemperatureParams {
        divisor: real(temperature),
        n_elements: word(logits.tensor().len()),
        vocab: word(logits.vocab()),
        pad0: 0,
        pad1: 0,
    };
    recorder.dispatch(
        &TEMPERATURE,
        &[],
        &params,
        &[logits.status().read(), logits.tensor().write()],
        Grid::linear(logits.tensor().len(), WORKGROUP_SIZE)?,
    )?;
    Ok(())
}
