//! KERPLE on the GPU: the bias matrix, and the gradients of its parameters.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};

use super::{WORKGROUP_SIZE, axes, check_bias, expect_shape, word};
use crate::PosencError;
use crate::kerple::KerpleKernel;

llm_gpu::params! {
    /// The parameter block of `kerple.wgsl`.
    pub(super) struct KerpleParams {
        n_elements: u32,
        seq: u32,
        kv_seq: u32,
        kernel: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `kerple_backward.wgsl`.
    pub(super) struct KerpleBackwardParams {
        heads: u32,
        n_diagonals: u32,
        zero_diagonal: u32,
        kernel: u32,
    }
}

/// KERPLE's bias of one score, as WGSL functions `kerple_score_bias` and `kerple_gradient`: the form that stands in the
/// loop of an attention kernel.
pub const SCORE: Snippet = Snippet {
    name: "kerple_score",
    source: include_str!("kerple_score.wgsl"),
};

pub(super) static KERPLE: Kernel = Kernel {
    name: "kerple",
    source: include_str!("kerple.wgsl"),
    snippets: &[snippet::LINEAR, SCORE],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<KerpleParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static KERPLE_BACKWARD: Kernel = Kernel {
    name: "kerple_backward",
    source: include_str!("kerple_backward.wgsl"),
    snippets: &[snippet::LINEAR, snippet::TREE_SUM, SCORE],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    params_size: size_of::<KerpleBackwardParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

/// The number of a kernel, as `kerple_score.wgsl` has it.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::kerple::kernel_code;
/// use llm_posenc::kerple::KerpleKernel;
///
/// assert_eq!(kernel_code(KerpleKernel::Power), 1);
/// ```
#[must_use]
pub const fn kernel_code(kernel: KerpleKernel) -> u32 {
    match kernel {
        KerpleKernel::Logarithmic => 0,
        KerpleKernel::Power => 1,
    }
}

/// Records the bias matrix: [`kerple::bias`](crate::kerple::bias).
///
/// # Shapes
///
/// - `r1`, `r2`: `[heads]`
/// - returns: `[heads, seq, kv_seq]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `r1` has not one axis.
/// - [`PosencError::GpuShape`] if `r2` has another shape.
/// - [`PosencError::Heads`] if there is no head, or more than [`MAX_HEADS`](crate::alibi::MAX_HEADS).
/// - [`PosencError::BiasTooLarge`] if a length is 2^30 or more.
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// Logarithm and power of the device: 1e-5, relative to the largest term, on the devices tried. The parameters are
/// on the device and not checked.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::kerple as gpu_kerple;
/// use llm_posenc::kerple::KerpleKernel;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let r1 = gpu.upload(&ndarray::array![2.0_f32])?;
/// let r2 = gpu.upload(&ndarray::array![1.0_f32])?;
/// let mut recorder = gpu.recorder();
/// let bias = gpu_kerple::bias(&mut recorder, &r1, &r2, 1, 4, KerpleKernel::Logarithmic)?;
/// recorder.submit()?;
/// let bias = bias.download_blocking()?; // [1, 1, 4]
/// assert_eq!(bias[[0, 0, 3]], 0.0); // the query's own key
/// assert!((bias[[0, 0, 0]] + 2.0 * 4_f32.ln()).abs() < 1e-4); // -r1 log(1 + r2 · 3)
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn bias(
    recorder: &mut Recorder,
    r1: &GpuTensor<f32>,
    r2: &GpuTensor<f32>,
    seq: usize,
    kv_seq: usize,
    kernel: KerpleKernel,
) -> Result<GpuTensor<f32>, PosencError> {
    let [heads] = axes(r1)?;
    expect_shape(r2, &[heads])?;
    check_bias(heads, seq, kv_seq)?;
    let y = recorder.output::<f32>(&[heads, seq, kv_seq])?;
    let params = KerpleParams {
        n_elements: word(y.len())?,
        seq: word(seq)?,
        kv_seq: word(kv_seq)?,
        kernel: kernel_code(kernel),
    };
    let grid = Grid::linear(y.len(), WORKGROUP_SIZE)?;
    recorder.dispatch(
        &KERPLE,
        &[],
        &params,
        &[r1.read(), r2.read(), y.write()],
        grid,
    )?;
    Ok(y)
}

/// Records the gradients for `r1` and `r2` of [`bias`].
///
/// # Shapes
///
/// - `dbias`: `[heads, seq, kv_seq]`
/// - `r1`, `r2`: `[heads]`
/// - returns: `[heads]` and `[heads]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `dbias` has not three axes.
/// - [`PosencError::GpuShape`] if `r1` or `r2` has not one entry per head.
/// - [`PosencError::Heads`] if there is no head, or more than [`MAX_HEADS`](crate::alibi::MAX_HEADS).
/// - [`PosencError::BiasTooLarge`] if a length is 2^30 or more.
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// f32 sums in a fixed order: along each diagonal, over diagonals, then invocations. At distance 0 the gradient is 0.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::kerple as gpu_kerple;
/// use llm_posenc::kerple::KerpleKernel;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let dbias = gpu.upload(&ndarray::array![[[1.0_f32, 1.0]]])?; // [1, 1, 2]: distances 1 and 0
/// let r1 = gpu.upload(&ndarray::array![2.0_f32])?;
/// let r2 = gpu.upload(&ndarray::array![1.0_f32])?;
/// let mut recorder = gpu.recorder();
/// let kernel = KerpleKernel::Logarithmic;
/// let (dr1, dr2) = gpu_kerple::backward(&mut recorder, &dbias, &r1, &r2, kernel)?;
/// recorder.submit()?;
/// assert!((dr1.download_blocking()?[0] + 2_f32.ln()).abs() < 1e-4); // -log(1 + r2)
/// assert!((dr2.download_blocking()?[0] + 1.0).abs() < 1e-4); // -r1 / (1 + r2)
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward(
    recorder: &mut Recorder,
    dbias: &GpuTensor<f32>,
    r1: &GpuTensor<f32>,
    r2: &GpuTensor<f32>,
    kernel: KerpleKernel,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), PosencError> {
    let [heads, seq, kv_seq] = axes(dbias)?;
    expect_shape(r1, &[heads])?;
    expect_shape(r2, &[heads])?;
    check_bias(heads, seq, kv_seq)?;
    let sums = super::diagonals::sums(recorder, dbias)?;
    let dr1 = recorder.output::<f32>(&[heads])?;
    let dr2 = recorder.output::<f32>(&[heads])?;
    let params = KerpleBackwardParams {
        heads: word(heads)?,
        n_diagonals: word(super::diagonals::count(seq, kv_seq))?,
        zero_diagonal: word(kv_seq.saturating_sub(1))?,
        kernel: kernel_code(kernel),
    };
    recorder.dispatch(
        &KERPLE_BACKWARD,
        &[],
        &params,
        &[r1.read(), r2.read(), sums.read(), dr1.write(), dr2.write()],
        Grid::linear(heads, 1)?,
    )?;
    Ok((dr1, dr2))
}
