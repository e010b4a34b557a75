//! ALiBi on the GPU: the bias matrix, the bias of padded batches, and the gradients of the slopes.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};

use super::{WORKGROUP_SIZE, axes, check_bias, expect_shape, word, words};
use crate::PosencError;
use crate::alibi::{AlibiOrigin, AlibiRounding};
use crate::diagonals::check_heads;

llm_gpu::params! {
    /// The parameter block of `alibi.wgsl`.
    pub(super) struct AlibiParams {
        n_elements: u32,
        seq: u32,
        kv_seq: u32,
        origin: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `alibi_backward.wgsl`.
    pub(super) struct AlibiBackwardParams {
        heads: u32,
        seq: u32,
        kv_seq: u32,
        origin: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `alibi_at.wgsl`.
    pub(super) struct AlibiAtParams {
        n_elements: u32,
        heads: u32,
        kv_seq: u32,
        to_bfloat16: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `alibi_at_backward.wgsl`.
    pub(super) struct AlibiAtBackwardParams {
        batch: u32,
        heads: u32,
        seq: u32,
        kv_seq: u32,
    }
}

/// ALiBi's bias of one score, as WGSL functions `alibi_distance` and `alibi_score_bias`: the form that stands in the
/// loop of an attention kernel.
pub const SCORE: Snippet = Snippet {
    name: "alibi_score",
    source: include_str!("alibi_score.wgsl"),
};

pub(super) static ALIBI: Kernel = Kernel {
    name: "alibi",
    source: include_str!("alibi.wgsl"),
    snippets: &[snippet::LINEAR, SCORE],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<AlibiParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static ALIBI_BACKWARD: Kernel = Kernel {
    name: "alibi_backward",
    source: include_str!("alibi_backward.wgsl"),
    snippets: &[snippet::LINEAR, snippet::TREE_SUM, SCORE],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<AlibiBackwardParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

pub(super) static ALIBI_AT: Kernel = Kernel {
    name: "alibi_at",
    source: include_str!("alibi_at.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<AlibiAtParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static ALIBI_AT_BACKWARD: Kernel = Kernel {
    name: "alibi_at_backward",
    source: include_str!("alibi_at_backward.wgsl"),
    snippets: &[snippet::LINEAR, snippet::TREE_SUM],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<AlibiAtBackwardParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

/// The number of an origin, as `alibi_score.wgsl` has it.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::AlibiOrigin;
/// use llm_posenc::gpu::alibi::origin_code;
///
/// assert_eq!(origin_code(AlibiOrigin::LastKeyZero), 1);
/// ```
#[must_use]
pub const fn origin_code(origin: AlibiOrigin) -> u32 {
    match origin {
        AlibiOrigin::KeyIndex => 0,
        AlibiOrigin::LastKeyZero => 1,
        AlibiOrigin::AbsoluteDistance => 2,
        AlibiOrigin::SignedDistance => 3,
        AlibiOrigin::PastDistance => 4,
    }
}

/// Records the bias matrix: [`alibi::bias`](crate::alibi::bias).
///
/// # Shapes
///
/// - `slopes`: `[heads]`
/// - returns: `[heads, seq, kv_seq]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `slopes` has not one axis.
/// - [`PosencError::Heads`] if there is no head, or more than [`MAX_HEADS`](crate::alibi::MAX_HEADS).
/// - [`PosencError::BiasTooLarge`] if a length is 2^30 or more, which the shader's signed distances cannot hold.
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensor is of another device.
///
/// # Precision
///
/// One product in f32; distances are exact below 2^24. Slopes are on the device and not checked.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::{self, AlibiOrigin};
/// use llm_posenc::gpu::alibi as gpu_alibi;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let slopes = alibi::slopes(8, alibi::MAX_BIAS)?; // 1/2, 1/4, ..
/// let on_device = gpu.upload(&slopes)?;
/// let mut recorder = gpu.recorder();
/// let bias = gpu_alibi::bias(&mut recorder, &on_device, 1, 3, AlibiOrigin::LastKeyZero)?;
/// recorder.submit()?;
/// let bias = bias.download_blocking()?; // [8, 1, 3]
/// assert_eq!(bias[[0, 0, 0]], -1.0); // two tokens before the last, times 1/2
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn bias(
    recorder: &mut Recorder,
    slopes: &GpuTensor<f32>,
    seq: usize,
    kv_seq: usize,
    origin: AlibiOrigin,
) -> Result<GpuTensor<f32>, PosencError> {
    let [heads] = axes(slopes)?;
    check_bias(heads, seq, kv_seq)?;
    let y = recorder.output::<f32>(&[heads, seq, kv_seq])?;
    let params = AlibiParams {
        n_elements: word(y.len())?,
        seq: word(seq)?,
        kv_seq: word(kv_seq)?,
        origin: origin_code(origin),
    };
    let grid = Grid::linear(y.len(), WORKGROUP_SIZE)?;
    recorder.dispatch(&ALIBI, &[], &params, &[slopes.read(), y.write()], grid)?;
    Ok(y)
}

/// Records the gradient for the slopes of [`bias`].
///
/// # Shapes
///
/// - `dbias`: `[heads, seq, kv_seq]`
/// - returns: `[heads]`
///
/// # Errors
///
/// As [`bias`], for `dbias`.
///
/// # Precision
///
/// f32 sums in a fixed order: over keys, then rows, then invocations.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::AlibiOrigin;
/// use llm_posenc::gpu::alibi as gpu_alibi;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let dbias = gpu.upload(&ndarray::array![[[1.0_f32, 1.0, 1.0]]])?; // [1, 1, 3]
/// let mut recorder = gpu.recorder();
/// let dslopes = gpu_alibi::backward(&mut recorder, &dbias, AlibiOrigin::KeyIndex)?;
/// recorder.submit()?;
/// assert_eq!(dslopes.download_blocking()?, ndarray::array![3.0].into_dyn()); // 0 + 1 + 2
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward(
    recorder: &mut Recorder,
    dbias: &GpuTensor<f32>,
    origin: AlibiOrigin,
) -> Result<GpuTensor<f32>, PosencError> {
    let [heads, seq, kv_seq] = axes(dbias)?;
    check_bias(heads, seq, kv_seq)?;
    let dslopes = recorder.output::<f32>(&[heads])?;
    let [_, seq, kv_seq] = words([heads, seq, kv_seq])?;
    let params = AlibiBackwardParams {
        heads: word(heads)?,
        seq,
        kv_seq,
        origin: origin_code(origin),
    };
    let bindings = [dbias.read(), dslopes.write()];
    recorder.dispatch(
        &ALIBI_BACKWARD,
        &[],
        &params,
        &bindings,
        Grid::linear(heads, 1)?,
    )?;
    Ok(dslopes)
}

/// Records the bias of batch rows with key positions of their own: [`alibi::bias_at`](crate::alibi::bias_at).
///
/// # Shapes
///
/// - `slopes`: `[heads]`
/// - `key_positions`: `[batch, kv_seq]`
/// - returns: `[batch, heads, 1, kv_seq]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `slopes` has not one axis or `key_positions` not two.
/// - [`PosencError::Heads`] as [`bias`].
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// One product in f32, positions exact below 2^24; or as the rounding says.
///
/// # Example
///
/// ```
/// use llm_posenc::alibi::{self, AlibiRounding};
/// use llm_posenc::gpu::alibi as gpu_alibi;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let slopes = gpu.upload(&ndarray::array![0.5_f32])?;
/// let positions = alibi::key_positions(&ndarray::array![[false, true, true]])?; // padded on the left
/// let positions = gpu.upload(&positions.mapv(|p| p as u32))?;
/// let mut recorder = gpu.recorder();
/// let bias = gpu_alibi::bias_at(&mut recorder, &slopes, &positions, AlibiRounding::Product)?;
/// recorder.submit()?;
/// assert_eq!(bias.download_blocking()?, ndarray::array![[[[0.0, 0.0, 0.5]]]].into_dyn());
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn bias_at(
    recorder: &mut Recorder,
    slopes: &GpuTensor<f32>,
    key_positions: &GpuTensor<u32>,
    rounding: AlibiRounding,
) -> Result<GpuTensor<f32>, PosencError> {
    let [heads] = axes(slopes)?;
    let [batch, kv_seq] = axes(key_positions)?;
    check_heads(heads)?;
    let y = recorder.output::<f32>(&[batch, heads, 1, kv_seq])?;
    let [_, kv_seq] = words([batch, kv_seq])?;
    let params = AlibiAtParams {
        n_elements: word(y.len())?,
        heads: word(heads)?,
        kv_seq,
        to_bfloat16: match rounding {
            AlibiRounding::Product => 0,
            AlibiRounding::Bfloat16 => 1,
        },
    };
    recorder.dispatch(
        &ALIBI_AT,
        &[],
        &params,
        &[slopes.read(), key_positions.read(), y.write()],
        Grid::linear(y.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(y)
}

/// Records the gradient for the slopes of [`bias_at`], without its rounding.
///
/// # Shapes
///
/// - `dbias`: `[batch, heads, seq, kv_seq]`
/// - `key_positions`: `[batch, kv_seq]`
/// - returns: `[heads]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `dbias` has not four axes or `key_positions` not two.
/// - [`PosencError::GpuShape`] if they differ in `batch` or `kv_seq`.
/// - [`PosencError::Heads`] as [`bias`].
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// f32 sums in a fixed order: over keys, then rows, then invocations.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::alibi as gpu_alibi;
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let dbias = gpu.upload(&ndarray::array![[[[1.0_f32, 1.0, 1.0]]]])?; // [1, 1, 1, 3]
/// let positions = gpu.upload(&ndarray::array![[0_u32, 0, 1]])?; // [1, 3]
/// let mut recorder = gpu.recorder();
/// let dslopes = gpu_alibi::backward_at(&mut recorder, &dbias, &positions)?;
/// recorder.submit()?;
/// assert_eq!(dslopes.download_blocking()?, ndarray::array![1.0].into_dyn());
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward_at(
    recorder: &mut Recorder,
    dbias: &GpuTensor<f32>,
    key_positions: &GpuTensor<u32>,
) -> Result<GpuTensor<f32>, PosencError> {
    let [batch, heads, seq, kv_seq] = axes(dbias)?;
    expect_shape(key_positions, &[batch, kv_seq])?;
    check_heads(heads)?;
    let dslopes = recorder.output::<f32>(&[heads])?;
    let [batch, _, seq, kv_seq] = words([batch, heads, seq, kv_seq])?;
    let params = AlibiAtBackwardParams {
        batch,
        heads: word(heads)?,
        seq,
        kv_seq,
    };
    let bindings = [dbias.read(), key_positions.read(), dslopes.write()];
    recorder.dispatch(
        &ALIBI_AT_BACKWARD,
        &[],
        &params,
        &bindings,
        Grid::linear(heads, 1)?,
    )?;
    Ok(dslopes)
}
