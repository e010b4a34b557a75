//! ALiBi, biases, masks and dropout for packed sequences on the GPU; forward and backward.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{expect, packed};
use crate::gpu::flash::{record_backward, record_rows};
use crate::gpu::plan::{Plan, Sizes};
use crate::gpu::score_mods::{GpuModGradients, GpuScoreMods, record_dbias, record_dslopes};
use crate::gpu::{Variant, WORKGROUP_SIZE, axes, forward as kernels, word};
use crate::{AttentionConfig, AttentionError};

llm_gpu::params! {
    /// The parameter block of `packed_lists.wgsl`.
    pub(in crate::gpu) struct PackedListsParams {
        n_elements: u32,
        n_words: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(in crate::gpu) static PACKED_LISTS: Kernel = Kernel {
    name: "packed_lists",
    source: include_str!("../packed_lists.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<PackedListsParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records packed attention with modified scores and weights:
/// [`varlen::score_mods::forward`](crate::varlen::score_mods::forward).
///
/// For each sequence alone what [`gpu::score_mods::forward`](crate::gpu::score_mods::forward) gives; dropout drops the
/// weights that it drops on the CPU.
///
/// # Shapes
///
/// - `q`, `k`, `v`, `cu_seqlens`, `cu_kv_seqlens`: as in [`gpu::varlen::forward`](super::forward)
/// - `mods`: slopes `[n_heads]`; bias and mask `[1, n_heads, total, kv_total]`, where each axis may have the length 1 and then
///   counts for all
/// - returns: `[total, n_heads, value_dim]` and `[n_heads, total]`
///
/// # Errors
///
/// Those of [`gpu::varlen::forward`](super::forward), and
///
/// - [`AttentionError::Slopes`] if there are not as many slopes as heads.
/// - [`AttentionError::Broadcast`] if a bias or a mask does not fit `[1, n_heads, total, kv_total]`.
/// - [`AttentionError::DropoutRate`] if the rate is not at least 0 and below 1.
///
/// # Precision
///
/// As [`gpu::score_mods::forward`](crate::gpu::score_mods::forward).
///
/// # Example
///
/// ```
/// use llm_attention::gpu::{score_mods::GpuScoreMods, varlen};
/// use llm_attention::{AlibiOrigin, AttentionConfig, CausalAlignment, Mask};
/// use ndarray::{Array3, array};
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// // Sequences of 2 and of 3 tokens with equal scores, but for ALiBi.
/// let x = gpu.upload(&Array3::<f32>::zeros((5, 1, 4)))?; // [total, n_heads, head_dim]
/// let v = gpu.upload(&Array3::from_shape_fn((5, 1, 1), |(token, ..)| token as f32))?;
/// let slopes = gpu.upload(&array![2_f32.ln()])?; // each step back halves the weight
/// let mods = GpuScoreMods::new().with_alibi(&slopes, AlibiOrigin::AbsoluteDistance);
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let (mut recorder, starts) = (gpu.recorder(), [0, 2, 5]);
/// let (out, _) =
///     varlen::score_mods::forward(&mut recorder, &x, &x, &v, &starts, &starts, &mods, &config)?;
/// recorder.submit()?;
/// // Token 4 sees tokens 2, 3 and 4 with weights 1 : 2 : 4.
/// assert!((out.download_blocking()?[[4, 0, 0]] - 24.0 / 7.0).abs() < 1e-5);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`varlen::score_mods::forward`](crate::varlen::score_mods::forward).
#[allow(
    clippy::too_many_arguments,
    reason = "a recorder, three tensors, two lists, the modifications and a config is what it takes"
)]
pub fn forward(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    mods: &GpuScoreMods<'_>,
    config: &AttentionConfig,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    let variant = Variant::Auto;
    forward_with(
        recorder,
        q,
        k,
        v,
        cu_seqlens,
        cu_kv_seqlens,
        mods,
        config,
        variant,
    )
}

/// [`forward`] by a kernel of the caller's choice.
///
/// # Shapes
///
/// As [`forward`].
///
/// # Errors
///
/// Those of [`forward`], and those that [`flash::forward_with`](crate::gpu::flash::forward_with) has for the variant.
///
/// # Precision
///
/// That of the [`Variant`], for sequences of one token too. Biases and slopes are in f32 in all of them.
///
/// # Example
///
/// ```
/// use llm_attention::gpu::{Variant, score_mods::GpuScoreMods, varlen};
/// use llm_attention::{AttentionConfig, Mask};
/// use ndarray::Array3;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&Array3::<f32>::ones((5, 2, 4)))?; // [total, n_heads, head_dim]
/// let (config, starts, mods) = (AttentionConfig::new(Mask::Full), [0, 2, 5], GpuScoreMods::new());
/// let mut recorder = gpu.recorder();
/// let (out, _) = varlen::score_mods::forward_with(
///     &mut recorder, &x, &x, &x, &starts, &starts, &mods, &config, Variant::Base,
/// )?;
/// recorder.submit()?;
/// assert!(out.download_blocking()?.iter().all(|x| (x - 1.0).abs() < 1e-6));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward`].
#[allow(
    clippy::too_many_arguments,
    reason = "a recorder, three tensors, two lists, the modifications, a config and a variant"
)]
pub fn forward_with(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    mods: &GpuScoreMods<'_>,
    config: &AttentionConfig,
    variant: Variant,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    let lists = [cu_seqlens, cu_kv_seqlens];
    let mut plan = packed(q, k, v, lists, config)?.with_mods(recorder, mods)?;
    let Sizes {
        seq,
        n_heads,
        value_dim,
        ..
    } = plan.sizes;
    let out = recorder.output::<f32>(&[seq, n_heads, value_dim])?;
    let lse = recorder.output::<f32>(&[n_heads, seq])?;
    if !lse.is_empty() {
        plan.set_lists(recorder, lists, false)?;
        plan.join_slopes(recorder)?;
        kernels::record(recorder, &plan, variant, &out, &lse)?;
    }
    Ok((out, lse))
}

/// Records the gradients of [`forward`]:
/// [`varlen::score_mods::backward`](crate::varlen::score_mods::backward).
///
/// # Shapes
///
/// - `dout`, `out`: `[total, n_heads, value_dim]`; `lse`: `[n_heads, total]`, both from [`forward`] with the same tensors,
///   lists, modifications and config
/// - the others as in [`forward`]
/// - returns: [`GpuModGradients`], each shaped as what it is for; of a bias zero for a query and a key of different sequences
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::PackedShape`] and [`AttentionError::PackedLseShape`] if `dout`, `out` or `lse` does not
/// have the shape above.
///
/// # Precision
///
/// As [`gpu::score_mods::backward`](crate::gpu::score_mods::backward).
///
/// # Example
///
/// ```
/// use llm_attention::gpu::{score_mods::GpuScoreMods, varlen};
/// use llm_attention::{AlibiOrigin, AttentionConfig, Mask};
/// use ndarray::{Array3, array};
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&Array3::<f32>::zeros((5, 1, 4)))?; // [total, n_heads, head_dim]
/// let v = gpu.upload(&Array3::from_shape_fn((5, 1, 1), |(token, ..)| token as f32))?;
/// let dout = gpu.upload(&Array3::<f32>::ones((5, 1, 1)))?;
/// let slopes = gpu.upload(&array![0_f32])?;
/// let mods = GpuScoreMods::new().with_alibi(&slopes, AlibiOrigin::KeyIndex);
/// let (config, starts) = (AttentionConfig::new(Mask::Full), [0, 2, 5]);
/// let mut recorder = gpu.recorder();
/// let (out, lse) =
///     varlen::score_mods::forward(&mut recorder, &x, &x, &v, &starts, &starts, &mods, &config)?;
/// let grads = varlen::score_mods::backward(
///     &mut recorder, &dout, &x, &x, &v, &out, &lse, &starts, &starts, &mods, &config,
/// )?;
/// recorder.submit()?;
/// // Each query adds the variance of its keys: twice 1/4, and three times 2/3.
/// assert!((grads.dslopes.unwrap().download_blocking()?[0] - 2.5).abs() < 1e-5);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`varlen::score_mods::backward`](crate::varlen::score_mods::backward).
#[allow(
    clippy::too_many_arguments,
    reason = "a recorder, six tensors, two lists, the modifications and a config is what the gradient has"
)]
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    mods: &GpuScoreMods<'_>,
    config: &AttentionConfig,
) -> Result<GpuModGradients, AttentionError> {
    let lists = [cu_seqlens, cu_kv_seqlens];
    let mut plan = packed(q, k, v, lists, config)?.with_mods(recorder, mods)?;
    let Sizes {
        seq,
        n_heads,
        value_dim,
        ..
    } = plan.sizes;
    expect("dout", dout, [seq, n_heads, value_dim])?;
    expect("out", out, [seq, n_heads, value_dim])?;
    let (expected, got) = ([n_heads, seq], axes("lse", lse)?);
    if got != expected {
        return Err(AttentionError::PackedLseShape { expected, got });
    }
    let rows = record_rows(recorder, lse, dout, out, [seq, n_heads, 1])?;
    if !(lse.is_empty() && k.is_empty() && v.is_empty()) {
        plan.set_lists(recorder, lists, true)?;
        plan.join_slopes(recorder)?;
    }
    let inputs = record_backward(recorder, &plan, dout, &rows, [q, k, v])?;
    let dbias = mods
        .bias
        .map(|bias| record_dbias(recorder, &plan, dout, &rows, bias))
        .transpose()?;
    let dslopes = mods
        .alibi
        .map(|(slopes, _)| record_dslopes(recorder, &plan, dout, &rows, slopes))
        .transpose()?;
    Ok(GpuModGradients {
        inputs,
        dbias,
        dslopes,
    })
}

impl Plan<'_> {
    /// Puts the slopes behind the lists: the kernels have one binding for both.
    fn join_slopes(&mut self, recorder: &mut Recorder) -> Result<(), AttentionError> {
        let (Some(lists), Some(slopes)) = (&self.lists, self.slopes) else {
            return Ok(());
        };
        let n_elements = lists.len() + slopes.len();
        let joined = recorder.scratch::<u32>(&[n_elements])?;
        let params = PackedListsParams {
            n_elements: word(n_elements),
            n_words: word(lists.len()),
            pad0: 0,
            pad1: 0,
        };
        let grid = Grid::linear(n_elements, WORKGROUP_SIZE)?;
        let bindings = [lists.read(), slopes.read(), joined.write()];
        recorder.dispatch(&PACKED_LISTS, &[], &params, &bindings, grid)?;
        self.params.slopes = params.n_words;
        self.lists = Some(joined);
        Ok(())
    }
}
