//! The tokens that were chosen, on the GPU and from there.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::logits::refusal;
use super::rows::{Check, record_extent, record_mass};
use super::{
    GpuLogits, GpuSamplingError, KEYS, REAL, WEIGHT, WIDE, WORKGROUP_SIZE, expect_shape, word,
};

llm_gpu::params! {
    /// The parameter block of `log_probability.wgsl`.
    pub(super) struct LogProbabilityParams {
        n_rows: u32,
        vocab: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(super) static LOG_PROBABILITY: Kernel = Kernel {
    name: "log_probability",
    source: include_str!("log_probability.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, WEIGHT],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
    params_size: size_of::<LogProbabilityParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// A token for each row.
///
/// The tensor can feed the next step of a model; [`download`](Self::download) brings the ids to the host, four bytes for each row.
#[derive(Clone, Debug)]
pub struct GpuDraws {
    tokens: GpuTensor<u32>,
    status: GpuTensor<u32>,
}

impl GpuDraws {
    pub(super) fn new(tokens: GpuTensor<u32>, logits: &GpuLogits) -> Self {
        Self {
            tokens,
            status: logits.status().clone(),
        }
    }

    /// The tokens, `[batch]`; `u32::MAX` for rows that were refused.
    #[must_use]
    pub const fn tokens(&self) -> &GpuTensor<u32> {
        &self.tokens
    }

    /// Waits for the tokens. Only if a row was refused, its status is asked for too.
    ///
    /// # Shapes
    ///
    /// - returns: `[batch]`
    ///
    /// # Errors
    ///
    /// As [`GpuLogits::check`].
    pub async fn download(&self) -> Result<Vec<u32>, GpuSamplingError> {
        let tokens = self.tokens.download().await?;
        if tokens.iter().any(|token| *token == u32::MAX) {
            refusal(&self.status.download().await?)?;
        }
        Ok(tokens.into_iter().collect())
    }

    /// [`download`](Self::download), and waits for it.
    ///
    /// # Shapes
    ///
    /// - returns: `[batch]`
    ///
    /// # Errors
    ///
    /// As [`GpuLogits::check`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn download_blocking(&self) -> Result<Vec<u32>, GpuSamplingError> {
        let tokens = self.tokens.download_blocking()?;
        if tokens.iter().any(|token| *token == u32::MAX) {
            refusal(&self.status.download_blocking()?)?;
        }
        Ok(tokens.into_iter().collect())
    }
}

/// Records how likely the chosen tokens were: [`Draw::log_probability`](crate::Draw::log_probability).
///
/// ```text
/// y_r = ln softmax(x_r)[token_r]
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, as the draw saw them
/// - `draws`: `[batch]`
/// - returns: `[batch]`, in nats; NaN for rows that were refused, of these logits or of those that the tokens were drawn from
///
/// # Errors
///
/// - [`GpuSamplingError::Shape`] if there is not one token for each row.
/// - [`GpuSamplingError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// That of [`log_normalization::apply_inplace`](super::log_normalization::apply_inplace).
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, draws, greedy};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[0.0_f32, 3_f32.ln()]])?; // probabilities 1/4, 3/4
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// let draws = greedy::argmax(&mut recorder, &logits)?;
/// let log_probabilities = draws::log_probabilities(&mut recorder, &logits, &draws)?;
/// recorder.submit()?;
/// assert!((log_probabilities.download_blocking()?[[0]] - 0.75_f32.ln()).abs() < 1e-7);
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
pub fn log_probabilities(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    draws: &GpuDraws,
) -> Result<GpuTensor<f32>, GpuSamplingError> {
    expect_shape("draws", draws.tokens(), &[logits.batch()])?;
    let extent = record_extent(recorder, logits, Check::FiniteMax)?;
    let mass = record_mass(recorder, logits, &extent)?;
    let y = recorder.output::<f32>(&[logits.batch()])?;
    let params = LogProbabilityParams {
        n_rows: word(logits.batch()),
        vocab: word(logits.vocab()),
        pad0: 0,
        pad1: 0,
    };
    let bindings = [
        logits.tensor().read(),
        extent.read(),
        mass.read(),
        logits.status().read(),
        draws.tokens().read(),
        y.write(),
    ];
    let grid = Grid::linear(logits.batch(), WORKGROUP_SIZE)?;
    recorder.dispatch(&LOG_PROBABILITY, &[], &params, &bindings, grid)?;
    Ok(y)
}
