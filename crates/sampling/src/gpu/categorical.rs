//! The draw by inverse CDF on the GPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::draws::GpuDraws;
use super::rows::{Check, record_extent, record_group_mass};
use super::top_p::share;
use super::{GpuLogits, GpuSamplingError, KEYS, REAL, WEIGHT, WIDE, word};
use crate::SamplingError;
use crate::categorical::check_uniform;

llm_gpu::params! {
    /// The parameter block of `categorical.wgsl`.
    pub(super) struct CategoricalParams {
        n_rows: u32,
        vocab: u32,
        n_groups: u32,
        pad0: u32,
    }
}

pub(super) static CATEGORICAL: Kernel = Kernel {
    name: "categorical",
    source: include_str!("categorical.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, WEIGHT],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
    params_size: size_of::<CategoricalParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(2048),
};

/// Records a draw for each row with one uniform number each: [`categorical::draw`](crate::categorical::draw).
///
/// ```text
/// p = softmax(x),   token = min { i : p_0 + .. + p_i > u }
/// ```
///
/// For the numbers of a [`RowRandom`](crate::RowRandom), which decoding loops use, take its
/// [`uniform(0)`](crate::RowRandom::uniform).
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
/// - `uniforms`: `[batch]`, each in `[0, 1)`; a row's token depends on that row and its number only
/// - returns: `[batch]`
///
/// # Errors
///
/// - [`SamplingError::UniformsLen`], [`SamplingError::Uniform`].
/// - [`GpuSamplingError::Gpu`] if the device has no room for the result.
///
/// Rows are refused with [`NanLogits`](SamplingError::NanLogits), [`InfiniteLogits`](SamplingError::InfiniteLogits),
/// [`MaskedRow`](SamplingError::MaskedRow).
///
/// # Precision
///
/// Weights `e^(x_i - max)` are right to `2^-28` of themselves and to `2^-44`; their sums are exact. So the token is the right one unless `u` is
/// within `2^-27 + vocab 2^-44` of an edge between two tokens; the CPU's is unless it is within `1e-6`. Tokens more than 31 nats below the likeliest
/// are never drawn.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, categorical};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[0.0_f32, 3_f32.ln()], [0.0, 3_f32.ln()]])?; // probabilities 1/4, 3/4
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// let draws = categorical::draw(&mut recorder, &logits, &[0.2, 0.3])?;
/// recorder.submit()?;
/// assert_eq!(draws.download_blocking()?, [0, 1]);
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`categorical::draw`](crate::categorical::draw).
pub fn draw(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    uniforms: &[f64],
) -> Result<GpuDraws, GpuSamplingError> {
    check_uniforms(logits, uniforms)?;
    let extent = record_extent(recorder, logits, Check::FiniteMax)?;
    record(recorder, logits, &extent, uniforms)
}

pub(super) fn check_uniforms(logits: &GpuLogits, uniforms: &[f64]) -> Result<(), GpuSamplingError> {
    if uniforms.len() != logits.batch() {
        return Err(SamplingError::UniformsLen {
            expected: logits.batch(),
            got: uniforms.len(),
        }
        .into());
    }
    Ok(uniforms.iter().try_for_each(|&u| check_uniform(u))?)
}

/// [`draw`] from rows whose extent is known, with as many numbers.
pub(super) fn record(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    extent: &GpuTensor<u32>,
    uniforms: &[f64],
) -> Result<GpuDraws, GpuSamplingError> {
    let batch = logits.batch();
    let tokens = recorder.output::<u32>(&[batch])?;
    if batch == 0 {
        return Ok(GpuDraws::new(tokens, logits));
    }
    let partial = record_group_mass(recorder, logits, extent)?;
    let uniforms: Vec<u32> = uniforms
        .iter()
        .flat_map(|&u| [share(u) as u32, (share(u) >> 32) as u32])
        .collect();
    let uniforms = recorder.gpu().upload_slice(&[batch, 2], &uniforms)?;
    let params = CategoricalParams {
        n_rows: word(batch),
        vocab: word(logits.vocab()),
        n_groups: word(logits.n_groups()),
        pad0: 0,
    };
    let bindings = [
        logits.tensor().read(),
        extent.read(),
        logits.status().read(),
        partial.read(),
        uniforms.read(),
        tokens.write(),
    ];
    recorder.dispatch(
        &CATEGORICAL,
        &[],
        &params,
        &bindings,
        Grid::linear(batch, 1)?,
    )?;
    Ok(GpuDraws::new(tokens, logits))
}
