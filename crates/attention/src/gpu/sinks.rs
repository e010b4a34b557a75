//! Attention sinks on the GPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::flash::{expect_lse, record_rows};
use super::plan::expect;
use super::{WORKGROUP_SIZE, axes, word};
use crate::AttentionError;

llm_gpu::params! {
    /// The parameter block of `sinks_apply.wgsl`.
    pub(super) struct SinksApplyParams {
        n_elements: u32,
        value_dim: u32,
        seq: u32,
        n_heads: u32,
        has_values: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `sinks_backward.wgsl`.
    pub(super) struct SinksBackwardParams {
        batch: u32,
        n_heads: u32,
        seq: u32,
        pad0: u32,
    }
}

pub(super) static SINKS_APPLY: Kernel = Kernel {
    name: "sinks_apply",
    source: include_str!("sinks_apply.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    params_size: size_of::<SinksApplyParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static SINKS_BACKWARD: Kernel = Kernel {
    name: "sinks_backward",
    source: include_str!("sinks_backward.wgsl"),
    snippets: &[snippet::LINEAR, snippet::TREE_SUM],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<SinksBackwardParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

/// Records attention with sinks from attention without: [`sinks::apply`](crate::sinks::apply).
///
/// ```text
/// lse' = ln(e^lse + e^sink),   out' = out / (1 + e^(sink - lse))
/// ```
///
/// The results take the place of `out` and `lse`: given to [`flash::backward`](super::flash::backward) they make its
/// gradients those of attention with sinks.
///
/// # Shapes
///
/// - `out`: `[batch, n_heads, seq, value_dim]`, `lse`: `[batch, n_heads, seq]`
/// - `sinks`: `[n_heads]`, finite or `-inf`, which changes nothing
/// - returns: shaped as `out` and `lse`
///
/// A query that sees no key keeps its zeros, and its `lse` becomes the sink.
///
/// # Errors
///
/// - [`AttentionError::Rank`] if a tensor has another number of axes.
/// - [`AttentionError::LseShape`] if `lse` does not fit `out`, [`AttentionError::Sinks`] if there are not as many sinks as
///   heads.
/// - [`AttentionError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// Some roundings in f32; sinks are on the device and not checked.
///
/// # Example
///
/// ```
/// use llm_attention::gpu;
/// use ndarray::{Array3, Array4, array};
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// // One key with the score 0 and the value 1. A sink of ln 3 takes three quarters of the weight.
/// let out = gpu.upload(&Array4::<f32>::ones((1, 1, 1, 1)))?;
/// let lse = gpu.upload(&Array3::<f32>::zeros((1, 1, 1)))?;
/// let sinks = gpu.upload(&array![3_f32.ln()])?;
/// let mut recorder = gpu.recorder();
/// let (out, _) = gpu::sinks::apply(&mut recorder, &out, &lse, &sinks)?;
/// recorder.submit()?;
/// assert!((out.download_blocking()?[[0, 0, 0, 0]] - 0.25).abs() < 1e-6);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: gpt-oss, arXiv:2508.10925v1, section 2.
pub fn apply(
    recorder: &mut Recorder,
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
    sinks: &GpuTensor<f32>,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    let [_, n_heads, seq, value_dim] = check(out, lse, sinks)?;
    let y = recorder.output::<f32>(out.shape())?;
    let new_lse = recorder.output::<f32>(lse.shape())?;
    // Without values there is still a log-sum-exp.
    let n_elements = if value_dim == 0 { lse.len() } else { out.len() };
    let params = SinksApplyParams {
        n_elements: word(n_elements),
        value_dim: word(value_dim.max(1)),
        seq: word(seq),
        n_heads: word(n_heads),
        has_values: u32::from(value_dim > 0),
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    let bindings = [
        out.read(),
        lse.read(),
        sinks.read(),
        y.write(),
        new_lse.write(),
    ];
    let grid = Grid::linear(n_elements, WORKGROUP_SIZE)?;
    recorder.dispatch(&SINKS_APPLY, &[], &params, &bindings, grid)?;
    Ok((y, new_lse))
}

/// Records the gradient of the sinks: [`sinks::backward`](crate::sinks::backward).
///
/// ```text
/// dsink_h = - sum_(batch, i) e^(sink_h - lse'_i) <dout'_i, out'_i>
/// ```
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`; `lse`: `[batch, n_heads, seq]`; `out` and `lse` as [`apply`] leaves
///   them
/// - `sinks`: `[n_heads]`
/// - returns: `[n_heads]`
///
/// # Errors
///
/// As [`apply`]; also [`AttentionError::Shape`] if `dout` has another shape than `out`.
///
/// # Precision
///
/// f32 sums in a fixed order.
///
/// # Example
///
/// ```
/// use llm_attention::gpu;
/// use ndarray::{Array3, Array4, array};
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// // One key with the score 0 and the value 1, and a sink of ln 3: out = 1/4, lse = ln 4.
/// let out = gpu.upload(&Array4::from_elem((1, 1, 1, 1), 0.25_f32))?;
/// let lse = gpu.upload(&Array3::from_elem((1, 1, 1), 4_f32.ln()))?;
/// let dout = gpu.upload(&Array4::<f32>::ones((1, 1, 1, 1)))?;
/// let sinks = gpu.upload(&array![3_f32.ln()])?;
/// let mut recorder = gpu.recorder();
/// let dsinks = gpu::sinks::backward(&mut recorder, &dout, &out, &lse, &sinks)?;
/// recorder.submit()?;
/// assert!((dsinks.download_blocking()?[[0]] + 3.0 / 16.0).abs() < 1e-6);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: the derivative of the formula of [`apply`].
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
    sinks: &GpuTensor<f32>,
) -> Result<GpuTensor<f32>, AttentionError> {
    let shape = check(out, lse, sinks)?;
    expect("dout", dout, shape)?;
    let dsinks = recorder.output::<f32>(sinks.shape())?;
    let rows = record_rows(recorder, lse, dout, out, [lse.len(), 1, 0])?;
    let [batch, n_heads, seq, _] = shape;
    // Axes beside a zero may have any length.
    let is_empty = lse.is_empty();
    let params = SinksBackwardParams {
        batch: if is_empty { 0 } else { word(batch) },
        n_heads: word(n_heads),
        seq: if is_empty { 0 } else { word(seq) },
        pad0: 0,
    };
    let bindings = [rows.read(), sinks.read(), dsinks.write()];
    let grid = Grid::linear(n_heads, 1)?;
    recorder.dispatch(&SINKS_BACKWARD, &[], &params, &bindings, grid)?;
    Ok(dsinks)
}

fn check(
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
    sinks: &GpuTensor<f32>,
) -> Result<[usize; 4], AttentionError> {
    let shape = axes("out", out)?;
    let [batch, n_heads, seq, _] = shape;
    expect_lse(lse, [batch, n_heads, seq])?;
    let [got] = axes("sinks", sinks)?;
    if got != n_heads {
        return Err(AttentionError::Sinks { n_heads, got });
    }
    Ok(shape)
}
