//! The sinusoidal encoding on the GPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{TURNS, WORKGROUP_SIZE, turns_per_token, word};
use crate::PosencError;
use crate::sinusoidal::{self, SinusoidalConfig, SinusoidalLayout};

llm_gpu::params! {
    /// The parameter block of `sinusoidal.wgsl`.
    pub(super) struct SinusoidalParams {
        n_elements: u32,
        d_model: u32,
        n_sines: u32,
        n_cosines: u32,
        halves: u32,
        padding_idx: u32,
        has_padding_idx: u32,
        pad0: u32,
    }
}

pub(super) static SINUSOIDAL: Kernel = Kernel {
    name: "sinusoidal",
    source: include_str!("sinusoidal.wgsl"),
    snippets: &[snippet::LINEAR, TURNS],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<SinusoidalParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records the rows of any positions: [`sinusoidal::encode`].
///
/// # Shapes
///
/// - `positions`: `[seq]` (or of any shape: rows stand in its order)
/// - returns: `[positions.len(), d_model]`
///
/// # Errors
///
/// - As [`sinusoidal::inv_freq`].
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensor is of another device.
///
/// # Precision
///
/// 3e-7 for angles up to 2^30 radians: they are formed in 64-bit integers, as fractions of a turn.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::sinusoidal as gpu_sinusoidal;
/// use llm_posenc::sinusoidal::{SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let (layout, exponent) = (SinusoidalLayout::Interleaved, SinusoidalExponent::TwoIOverDim);
/// let config = SinusoidalConfig::new(4, layout, exponent);
/// let positions = gpu.upload(&ndarray::array![0_u32, 1])?;
/// let mut recorder = gpu.recorder();
/// let y = gpu_sinusoidal::encode(&mut recorder, &positions, &config)?;
/// recorder.submit()?;
/// let y = y.download_blocking()?; // [2, 4]
/// assert_eq!((y[[0, 0]], y[[0, 1]]), (0.0, 1.0));
/// assert!((y[[1, 0]] - 1_f32.sin()).abs() < 3e-7);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn encode(
    recorder: &mut Recorder,
    positions: &GpuTensor<u32>,
    config: &SinusoidalConfig,
) -> Result<GpuTensor<f32>, PosencError> {
    let inv_freq = sinusoidal::inv_freq(config)?;
    let y = recorder.output::<f32>(&[positions.len(), config.d_model])?;
    let padding_idx = config.padding_idx.and_then(|p| u32::try_from(p).ok());
    let params = SinusoidalParams {
        n_elements: word(y.len())?,
        d_model: word(config.d_model)?,
        n_sines: word(inv_freq.len())?,
        n_cosines: word(inv_freq.len().min(config.d_model - inv_freq.len()))?,
        halves: match config.layout {
            SinusoidalLayout::Interleaved => 0,
            SinusoidalLayout::HalfSplit => 1,
        },
        padding_idx: padding_idx.unwrap_or(0),
        has_padding_idx: u32::from(padding_idx.is_some()),
        pad0: 0,
    };
    let frequencies = turns_per_token(recorder.gpu(), inv_freq.iter().copied())?;
    recorder.dispatch(
        &SINUSOIDAL,
        &[],
        &params,
        &[positions.read(), frequencies.read(), y.write()],
        Grid::linear(y.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(y)
}
