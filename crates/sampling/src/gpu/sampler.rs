//! The usual chains on the GPU, in the orders that are in use.

use llm_gpu::Recorder;

use super::chain::{self, Choice, Step};
use super::draws::GpuDraws;
use super::{GpuLogits, GpuSamplingError};
use crate::SamplingConfig;
use crate::sampler::SamplingMode;

/// Records the choice of a token for each row: [`sampler::sample`](crate::sampler::sample).
///
/// ```text
/// Greedy:       argmax x
/// HuggingFace:  x -> x / T -> top-k -> top-p -> softmax -> inverse CDF at u   (Vllm and OpenAi, too)
/// LlamaCpp:     x -> top-k -> top-p -> x / T -> softmax -> inverse CDF at u
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`; they are changed in place, but for greedy decoding
/// - `uniforms`: `[batch]`, each in `[0, 1)`; not looked at for greedy decoding
/// - returns: `[batch]`
///
/// # Errors
///
/// - [`SamplingError::UniformsLen`](crate::SamplingError::UniformsLen), [`SamplingError::Uniform`](crate::SamplingError::Uniform).
/// - [`GpuSamplingError::Gpu`] if the device has no room for what is computed on the way.
///
/// Rows are refused with the errors of the CPU.
///
/// # Precision
///
/// That of [`chain::sample`].
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, sampler};
/// use llm_sampling::{Dialect, SamplingConfig};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[3.0_f32, 2.0, 1.0], [0.5, 0.5, 0.1]])?;
/// let config = SamplingConfig::sample(Dialect::HuggingFace, 0.7, Some(50), Some(0.9))?;
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// let draws = sampler::sample(&mut recorder, &logits, &config, &[0.1, 0.7])?;
/// recorder.submit()?;
/// assert_eq!(draws.download_blocking()?, [0, 1]);
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
pub fn sample(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    config: &SamplingConfig,
    uniforms: &[f64],
) -> Result<GpuDraws, GpuSamplingError> {
    let SamplingMode::Sample {
        dialect,
        temperature,
        top_k,
        top_p,
    } = config.mode()
    else {
        return chain::sample(recorder, logits, &[], Choice::Greedy);
    };
    let mut steps: Vec<Step> = Vec::new();
    steps.extend(top_k.map(|k| Step::top_k(k, dialect.ties())));
    steps.extend(top_p.map(|p| Step::top_p(p, dialect.sum_from())));
    let place = if dialect.divides_first() {
        0
    } else {
        steps.len()
    };
    steps.insert(place, Step::Temperature(temperature));
    chain::sample(recorder, logits, &steps, Choice::Categorical(uniforms))
}
