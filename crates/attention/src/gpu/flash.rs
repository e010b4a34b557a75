//! Tiled attention on the GPU, forward and backward.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};

use super::plan::{FlashParams, Plan, expect};
use super::{GpuGradients, Variant, axes, decode, forward, word};
use crate::{AttentionConfig, AttentionError};

llm_gpu::params! {
    /// The parameter block of `flash_rows.wgsl`.
    pub(super) struct FlashRowsParams {
        n_rows: u32,
        value_dim: u32,
        n_inner: u32,
        inner_stride: u32,
        outer_stride: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

pub(super) const PARAMS: Snippet = Snippet {
    name: "flash_params",
    source: include_str!("flash_params.wgsl"),
};
pub(super) const INPUTS: Snippet = Snippet {
    name: "flash_inputs",
    source: include_str!("flash_inputs.wgsl"),
};
const BACKWARD_INPUTS: Snippet = Snippet {
    name: "flash_backward_inputs",
    source: include_str!("flash_backward_inputs.wgsl"),
};
/// Which keys a query sees: `mask_keys`. It reads the fields `bottom_right`, `left`, `right`, `chunk` and `prefix` of
/// the kernel's `params`.
pub const MASK: Snippet = Snippet {
    name: "mask",
    source: include_str!("mask.wgsl"),
};
pub use llm_gpu::snippet::PHILOX;
pub(super) const TANH: Snippet = Snippet {
    name: "tanh",
    source: include_str!("tanh.wgsl"),
};
pub(super) const SCORE: Snippet = Snippet {
    name: "flash_score",
    source: include_str!("flash_score.wgsl"),
};
pub(super) const TILES: Snippet = Snippet {
    name: "flash_tile",
    source: include_str!("flash_tile.wgsl"),
};

/// Two tiles of 32 rows of 9 vectors; and what says whether a tile is hidden.
pub(super) const PRODUCT_BYTES: u32 = 2 * 32 * 9 * 16 + 64 * 4 + 16;
/// And 32 rows of 33 weights.
pub(super) const TILE_BYTES: u32 = PRODUCT_BYTES + 32 * 33 * 4;
pub(super) const HIDDEN: Snippet = Snippet {
    name: "flash_hidden",
    source: include_str!("flash_hidden.wgsl"),
};
const DS: Snippet = Snippet {
    name: "flash_ds",
    source: include_str!("flash_ds.wgsl"),
};

const KEY_ROWS: Snippet = Snippet {
    name: "flash_key_rows",
    source: include_str!("flash_key_rows.wgsl"),
};

const BACKWARD_SNIPPETS: &[Snippet] = &[
    snippet::LINEAR,
    snippet::TREE_SUM,
    PARAMS,
    INPUTS,
    BACKWARD_INPUTS,
    MASK,
    PHILOX,
    TANH,
    SCORE,
    TILES,
    HIDDEN,
    DS,
];

const KEY_ROWS_SNIPPETS: &[Snippet] = &[
    snippet::LINEAR,
    PARAMS,
    INPUTS,
    BACKWARD_INPUTS,
    MASK,
    PHILOX,
    TANH,
    SCORE,
    TILES,
    HIDDEN,
    KEY_ROWS,
];

const R: Access = Access::Read;
const W: Access = Access::Write;

pub(super) static FLASH_ROWS: Kernel = Kernel {
    name: "flash_rows",
    source: include_str!("flash_rows.wgsl"),
    snippets: &[snippet::LINEAR, snippet::TREE_SUM],
    bindings: &[R, R, R, W],
    params_size: size_of::<FlashRowsParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

pub(super) static FLASH_DQ: Kernel = backward_kernel("flash_dq", include_str!("flash_dq.wgsl"));
pub(super) static FLASH_DK: Kernel = Kernel {
    snippets: KEY_ROWS_SNIPPETS,
    ..backward_kernel("flash_dk", include_str!("flash_dk.wgsl"))
};
pub(super) static FLASH_DV: Kernel = Kernel {
    snippets: KEY_ROWS_SNIPPETS,
    ..backward_kernel("flash_dv", include_str!("flash_dv.wgsl"))
};

/// A kernel that reads what `flash_backward_inputs.wgsl` has, and writes one array.
pub(super) const fn backward_kernel(name: &'static str, source: &'static str) -> Kernel {
    Kernel {
        name,
        source,
        snippets: BACKWARD_SNIPPETS,
        bindings: &[R, R, R, R, R, R, R, W],
        params_size: size_of::<FlashParams>(),
        constants: &["COLUMN_VECTORS"],
        needs: Needs::CORE.with_workgroup_bytes(TILE_BYTES),
    }
}

/// Records attention of queries to keys and values: [`flash::forward_with_lse`](crate::flash::forward_with_lse).
///
/// ```text
/// out_i = sum_j e^(s_ij - lse_i) v_j,   lse_i = ln sum_j e^(s_ij),   s_ij = scale <q_i, k_j>
/// ```
///
/// A single query of each head (a decode step) goes over pieces of the keys side by side, which are merged by their log-sum-exp.
/// Tiles of keys that the mask hides from a tile of queries are skipped. The tiles have a size of their own: those of the
/// config do not matter.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, head_dim]`
/// - `k`: `[batch, n_kv_heads, kv_seq, head_dim]`
/// - `v`: `[batch, n_kv_heads, kv_seq, value_dim]`
/// - returns: `[batch, n_heads, seq, value_dim]` and the log-sum-exp `[batch, n_heads, seq]`
///
/// Any `head_dim` and `value_dim`. A query that sees no key gets zeros and [`LOWEST`](super::LOWEST).
///
/// # Errors
///
/// - [`AttentionError::Rank`] if a tensor has not four axes.
/// - [`AttentionError::TooLong`] if `seq` or `kv_seq` is above [`MAX_LENGTH`](super::MAX_LENGTH).
/// - [`AttentionError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
/// - Those of [`flash::forward`](crate::flash::forward) for shapes, heads and the config, in `f32`.
///
/// # Precision
///
/// f32 sums in a fixed order, relative to the largest score so far: that of [`Variant::Auto`].
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, gpu};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let q = gpu.upload(&array![[[[1.0_f32]]]])?; // [batch, n_heads, seq, head_dim] = [1, 1, 1, 1]
/// let k = gpu.upload(&array![[[[0.0_f32], [3_f32.ln()]]]])?;
/// let v = gpu.upload(&array![[[[4.0_f32, 0.0], [0.0, 8.0]]]])?;
/// let mut recorder = gpu.recorder();
/// let config = AttentionConfig::new(Mask::Full);
/// let (out, _) = gpu::flash::forward(&mut recorder, &q, &k, &v, &config)?;
/// recorder.submit()?;
/// let out = out.download_blocking()?;
/// assert!((out[[0, 0, 0, 0]] - 1.0).abs() < 1e-5); // weights 1/4 and 3/4
/// assert!((out[[0, 0, 0, 1]] - 6.0).abs() < 1e-5);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, algorithm 1.
pub fn forward(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    config: &AttentionConfig,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    forward_with(recorder, q, k, v, config, Variant::Auto)
}

/// [`forward`] by a kernel of the caller's choice.
///
/// # Shapes
///
/// As [`forward`].
///
/// # Errors
///
/// Those of [`forward`], and
///
/// - [`AttentionError::VectorFeatures`] if the variant loads four numbers at a time and `head_dim` or `value_dim` is not a multiple
///   of 4; for a single query only from [`Variant::Subgroups`].
/// - [`AttentionError::Gpu`] if the device has not what the variant needs.
///
/// # Precision
///
/// That of the [`Variant`].
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, gpu};
/// use ndarray::Array4;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&Array4::<f32>::ones((1, 2, 3, 4)))?; // [batch, n_heads, seq, head_dim]
/// let config = AttentionConfig::new(Mask::Full);
/// let mut recorder = gpu.recorder();
/// // The same kernel on every device.
/// let variant = gpu::Variant::Base;
/// let (out, _) = gpu::flash::forward_with(&mut recorder, &x, &x, &x, &config, variant)?;
/// recorder.submit()?;
/// assert!(out.download_blocking()?.iter().all(|x| (x - 1.0).abs() < 1e-6));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward`].
pub fn forward_with(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    config: &AttentionConfig,
    variant: Variant,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    let plan = Plan::new(q, k, v, config)?;
    let out = recorder.output::<f32>(&plan.out_shape())?;
    let lse = recorder.output::<f32>(&plan.lse_shape())?;
    if plan.sizes.seq == 1 {
        decode::record(recorder, &plan, variant, &out, &lse)?;
    } else {
        forward::record(recorder, &plan, variant, &out, &lse)?;
    }
    Ok((out, lse))
}

/// Records the gradients of [`forward`]: [`flash::backward`](crate::flash::backward).
///
/// ```text
/// p_ij  = e^(s_ij - lse_i)
/// ds_ij = p_ij (<dout_i, v_j> - <dout_i, out_i>)
/// dq_i  = scale sum_j ds_ij k_j,   dk_j = scale sum_i ds_ij q_i,   dv_j = sum_i p_ij dout_i
/// ```
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`; `lse`: `[batch, n_heads, seq]`, both from [`forward`] with the same
///   tensors and config
/// - the others as in [`forward`]
/// - returns: `dq` shaped as `q`, `dk` as `k`, `dv` as `v`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] and [`AttentionError::LseShape`] if `dout`, `out` or `lse` does not have the
/// shape above.
///
/// # Precision
///
/// f32 sums in a fixed order. Nothing is added with atomics: the scores are computed anew for each of the three gradients.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, gpu};
/// use ndarray::Array4;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let q = gpu.upload(&Array4::<f32>::ones((1, 4, 3, 8)))?; // [batch, n_heads, seq, head_dim]
/// let k = gpu.upload(&Array4::<f32>::ones((1, 2, 5, 8)))?; // [batch, n_kv_heads, kv_seq, head_dim]
/// let config = AttentionConfig::new(Mask::Full);
/// let mut recorder = gpu.recorder();
/// let (out, lse) = gpu::flash::forward(&mut recorder, &q, &k, &k, &config)?;
/// let dout = gpu.upload(&Array4::<f32>::ones((1, 4, 3, 8)))?;
/// let grads = gpu::flash::backward(&mut recorder, &dout, &q, &k, &k, &out, &lse, &config)?;
/// recorder.submit()?;
/// // Equal keys: each of the 5 gets a fifth of the weight of 2 heads times 3 queries.
/// assert!(grads.dv.download_blocking()?.iter().all(|x| (x - 6.0 / 5.0).abs() < 1e-5));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, algorithm 2, in one pass for each gradient.
#[allow(
    clippy::too_many_arguments,
    reason = "a recorder, six tensors and a config is what the gradient of attention has"
)]
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
    config: &AttentionConfig,
) -> Result<GpuGradients, AttentionError> {
    let plan = Plan::new(q, k, v, config)?;
    expect("dout", dout, plan.out_shape())?;
    expect("out", out, plan.out_shape())?;
    expect_lse(lse, plan.lse_shape())?;
    let rows = record_rows(recorder, lse, dout, out, [lse.len(), 1, 0])?;
    record_backward(recorder, &plan, dout, &rows, [q, k, v])
}

/// The gradients, shaped as the tensors that they are for.
pub(super) fn record_backward(
    recorder: &mut Recorder,
    plan: &Plan<'_>,
    dout: &GpuTensor<f32>,
    rows: &GpuTensor<f32>,
    [q, k, v]: [&GpuTensor<f32>; 3],
) -> Result<GpuGradients, AttentionError> {
    let (head_dim, value_dim) = (plan.sizes.head_dim, plan.sizes.value_dim);
    let [dq, dk, dv] = [
        recorder.output::<f32>(q.shape())?,
        recorder.output::<f32>(k.shape())?,
        recorder.output::<f32>(v.shape())?,
    ];
    let more = |gradient| [dout.read(), rows.read(), gradient];
    if !dq.is_empty() {
        plan.over_queries(recorder, &FLASH_DQ, head_dim, &more(dq.write()))?;
    }
    if !dk.is_empty() {
        plan.over_keys(recorder, &FLASH_DK, head_dim, &more(dk.write()))?;
    }
    if !dv.is_empty() {
        plan.over_keys(recorder, &FLASH_DV, value_dim, &more(dv.write()))?;
    }
    Ok(GpuGradients { dq, dk, dv })
}

/// The log-sum-exp and `<dout, out>` of each row, `[rows of lse, 2]`, a scratch tensor. Row `r` of `lse` is row
/// `r % n_inner * inner_stride + r / n_inner * outer_stride` of the others.
pub(super) fn record_rows(
    recorder: &mut Recorder,
    lse: &GpuTensor<f32>,
    dout: &GpuTensor<f32>,
    out: &GpuTensor<f32>,
    [n_inner, inner_stride, outer_stride]: [usize; 3],
) -> Result<GpuTensor<f32>, AttentionError> {
    let n_rows = lse.len();
    let rows = recorder.scratch::<f32>(&[n_rows, 2])?;
    let value_dim = out.len().checked_div(n_rows).unwrap_or(0);
    let params = FlashRowsParams {
        n_rows: word(n_rows),
        value_dim: word(value_dim),
        n_inner: word(n_inner),
        inner_stride: word(inner_stride),
        outer_stride: word(outer_stride),
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    let bindings = [lse.read(), dout.read(), out.read(), rows.write()];
    recorder.dispatch(
        &FLASH_ROWS,
        &[],
        &params,
        &bindings,
        Grid::linear(n_rows, 1)?,
    )?;
    Ok(rows)
}

/// Refuses a log-sum-exp of another shape.
pub(super) fn expect_lse(lse: &GpuTensor<f32>, expected: [usize; 3]) -> Result<(), AttentionError> {
    let got = axes("lse", lse)?;
    if got == expected {
        return Ok(());
    }
    Err(AttentionError::LseShape { expected, got })
}
