//! Score modifications on the GPU: ALiBi, a bias, a boolean mask, dropout; forward and backward.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::flash::{PRODUCT_BYTES, backward_kernel, expect_lse};
use super::flash::{record_backward, record_rows};
use super::plan::{FlashParams, Plan, TILE, expect};
use super::{GpuGradients, Variant, WORKGROUP_SIZE, axes, forward as kernels, word};
use crate::{AlibiOrigin, AttentionConfig, AttentionError, Dropout, MaskPolarity};

llm_gpu::params! {
    /// The parameter block of `masked_bias.wgsl`.
    pub(super) struct MaskedBiasParams {
        n_elements: u32,
        true_hides: u32,
        has_bias: u32,
        n_heads: u32,
        n_queries: u32,
        n_keys: u32,
        mask_batch: u32,
        mask_head: u32,
        mask_query: u32,
        mask_key: u32,
        bias_batch: u32,
        bias_head: u32,
        bias_query: u32,
        bias_key: u32,
        pad0: u32,
        pad1: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `row_sums.wgsl`.
    pub(super) struct RowSumsParams {
        n_rows: u32,
        n_columns: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(super) static MASKED_BIAS: Kernel = Kernel {
    name: "masked_bias",
    source: include_str!("masked_bias.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<MaskedBiasParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static FLASH_DBIAS: Kernel =
    backward_kernel("flash_dbias", include_str!("flash_dbias.wgsl"));

pub(super) static FLASH_DSLOPES: Kernel = Kernel {
    needs: Needs::CORE.with_workgroup_bytes(PRODUCT_BYTES + snippet::TREE_BYTES),
    ..backward_kernel("flash_dslopes", include_str!("flash_dslopes.wgsl"))
};

pub(super) static ROW_SUMS: Kernel = Kernel {
    name: "row_sums",
    source: include_str!("row_sums.wgsl"),
    snippets: &[snippet::LINEAR, snippet::TREE_SUM],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<RowSumsParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

/// [`ScoreMods`](crate::ScoreMods) on the device. By default nothing.
///
/// In this order: scale, softcap, ALiBi, bias, masks, softmax, dropout.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct GpuScoreMods<'a> {
    /// Slopes of ALiBi, `[n_heads]`, and what they are multiplied with.
    pub alibi: Option<(&'a GpuTensor<f32>, AlibiOrigin)>,
    /// Added to the scores: `[batch, n_heads, seq, kv_seq]`, where an axis may have the length 1 and then counts for all. A bias of
    /// `-inf` hides the key.
    pub bias: Option<&'a GpuTensor<f32>>,
    /// Hides keys, besides the mask of the config: 0 is false, other numbers are true. Shaped as a bias may be.
    pub mask: Option<(&'a GpuTensor<u32>, MaskPolarity)>,
    /// Drops weights: the same ones as on the CPU.
    pub dropout: Option<Dropout>,
}

impl<'a> GpuScoreMods<'a> {
    /// Nothing that changes a score.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`alibi`](Self::alibi).
    #[must_use]
    pub fn with_alibi(mut self, slopes: &'a GpuTensor<f32>, origin: AlibiOrigin) -> Self {
        self.alibi = Some((slopes, origin));
        self
    }

    /// Sets the [`bias`](Self::bias).
    #[must_use]
    pub fn with_bias(mut self, bias: &'a GpuTensor<f32>) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Sets the [`mask`](Self::mask).
    #[must_use]
    pub fn with_mask(mut self, mask: &'a GpuTensor<u32>, polarity: MaskPolarity) -> Self {
        self.mask = Some((mask, polarity));
        self
    }

    /// Sets the [`dropout`](Self::dropout).
    #[must_use]
    pub fn with_dropout(mut self, dropout: Dropout) -> Self {
        self.dropout = Some(dropout);
        self
    }
}

/// The gradients of [`backward`].
#[derive(Clone, Debug)]
pub struct GpuModGradients {
    /// For queries, keys and values.
    pub inputs: GpuGradients,
    /// For the bias, shaped as it is; `None` if there is none.
    pub dbias: Option<GpuTensor<f32>>,
    /// For the slopes of ALiBi, `[n_heads]`; `None` if there are none.
    pub dslopes: Option<GpuTensor<f32>>,
}

/// Records attention with modified scores and weights: [`score_mods::forward`](crate::score_mods::forward).
///
/// ```text
/// s_ij = softcap(scale <q_i, k_j>) + slope_h d_ij + bias_ij
/// p_ij = e^(s_ij) / sum_j e^(s_ij)       over the keys that no mask hides
/// out_i = sum_j z_ij p_ij v_j / (1 - rate)
/// ```
///
/// # Shapes
///
/// - `q`, `k`, `v`: as in [`flash::forward`](super::flash::forward)
/// - `mods`: see [`GpuScoreMods`]
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// # Errors
///
/// Those of [`flash::forward`](super::flash::forward), and
///
/// - [`AttentionError::Slopes`] if there are not as many slopes as heads.
/// - [`AttentionError::Broadcast`] if a bias or a mask does not fit the scores.
/// - [`AttentionError::DropoutRate`] if the rate is not at least 0 and below 1.
///
/// # Precision
///
/// As [`flash::forward`](super::flash::forward). Which weights are dropped is decided in integers, as on the CPU.
///
/// # Example
///
/// ```
/// use llm_attention::gpu::score_mods::{self, GpuScoreMods};
/// use llm_attention::{AttentionConfig, Mask, MaskPolarity};
/// use ndarray::{Array4, array};
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let q = gpu.upload(&Array4::<f32>::ones((2, 1, 1, 4)))?; // [batch, n_heads, seq, head_dim]
/// let k = gpu.upload(&Array4::<f32>::ones((2, 1, 2, 4)))?; // [batch, n_kv_heads, kv_seq, head_dim]
/// let v = gpu.upload(&array![[[[1.0_f32], [3.0]]], [[[1.0], [3.0]]]])?;
/// // The first token of the second sequence is padding: [batch, 1, 1, kv_seq].
/// let keys = gpu.upload(&array![[[[1_u32, 1]]], [[[0, 1]]]])?;
/// let mods = GpuScoreMods::new().with_mask(&keys, MaskPolarity::TrueAttends);
/// let mut recorder = gpu.recorder();
/// let config = AttentionConfig::new(Mask::Full);
/// let (out, _) = score_mods::forward(&mut recorder, &q, &k, &v, &mods, &config)?;
/// recorder.submit()?;
/// let out = out.download_blocking()?;
/// assert!((out[[0, 0, 0, 0]] - 2.0).abs() < 1e-6 && (out[[1, 0, 0, 0]] - 3.0).abs() < 1e-6);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`score_mods::forward`](crate::score_mods::forward).
pub fn forward(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    mods: &GpuScoreMods<'_>,
    config: &AttentionConfig,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    forward_with(recorder, q, k, v, mods, config, Variant::Auto)
}

/// [`forward`] by a kernel of the caller's choice.
///
/// # Shapes
///
/// As [`forward`].
///
/// # Errors
///
/// Those of [`forward`], and those that [`flash::forward_with`](super::flash::forward_with) has for the variant.
///
/// # Precision
///
/// That of the [`Variant`], also for a single query. Biases and slopes are in f32 in all of them.
///
/// # Example
///
/// ```
/// use llm_attention::gpu::score_mods::{self, GpuScoreMods};
/// use llm_attention::{AttentionConfig, Mask, gpu::Variant};
/// use ndarray::Array4;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&Array4::<f32>::ones((1, 2, 3, 4)))?; // [batch, n_heads, seq, head_dim]
/// let bias = gpu.zeros::<f32>(&[1, 1, 3, 3])?;
/// let (mods, config) = (GpuScoreMods::new().with_bias(&bias), AttentionConfig::new(Mask::Full));
/// let variant = match gpu.capabilities().f16 && gpu.capabilities().subgroups.is_some_and(|s| s.0 >= 8) {
///     true => Variant::F16,
///     false => Variant::Auto,
/// };
/// let mut recorder = gpu.recorder();
/// let (out, _) = score_mods::forward_with(&mut recorder, &x, &x, &x, &mods, &config, variant)?;
/// recorder.submit()?;
/// assert!(out.download_blocking()?.iter().all(|x| (x - 1.0).abs() < 1e-3));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward`].
pub fn forward_with(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    mods: &GpuScoreMods<'_>,
    config: &AttentionConfig,
    variant: Variant,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    let plan = Plan::new(q, k, v, config)?.with_mods(recorder, mods)?;
    let out = recorder.output::<f32>(&plan.out_shape())?;
    let lse = recorder.output::<f32>(&plan.lse_shape())?;
    kernels::record(recorder, &plan, variant, &out, &lse)?;
    Ok((out, lse))
}

/// Records the gradients of [`forward`]: [`score_mods::backward`](crate::score_mods::backward).
///
/// ```text
/// ds_ij  = p_ij (z_ij / (1 - rate) <dout_i, v_j> - <dout_i, out_i>)
/// dbias  = ds, summed over the axes along which the bias has the length 1
/// dslope = sum_ij ds_ij d_ij
/// ```
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`; `lse`: `[batch, n_heads, seq]`, both from [`forward`] with the same
///   tensors, modifications and config
/// - the others as in [`forward`]
/// - returns: [`GpuModGradients`], each shaped as what it is for
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] and [`AttentionError::LseShape`] if `dout`, `out` or `lse` does not have the
/// shape above.
///
/// # Precision
///
/// f32 sums in a fixed order. A gradient of slopes errs by 2^-24 of the sum of the sizes of its terms, which grow with the distance.
///
/// # Example
///
/// ```
/// use llm_attention::gpu::score_mods::{self, GpuScoreMods};
/// use llm_attention::{AttentionConfig, Mask};
/// use ndarray::Array4;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&Array4::<f32>::ones((1, 2, 3, 4)))?; // [batch, n_heads, seq, head_dim]
/// let bias = gpu.zeros::<f32>(&[1, 1, 3, 3])?; // for all heads
/// let (mods, config) = (GpuScoreMods::new().with_bias(&bias), AttentionConfig::new(Mask::Full));
/// let mut recorder = gpu.recorder();
/// let (out, lse) = score_mods::forward(&mut recorder, &x, &x, &x, &mods, &config)?;
/// let grads = score_mods::backward(&mut recorder, &x, &x, &x, &x, &out, &lse, &mods, &config)?;
/// recorder.submit()?;
/// // All values are the same: the weights do not matter.
/// let dbias = grads.dbias.unwrap().download_blocking()?;
/// assert!(dbias.iter().all(|x| x.abs() < 1e-5));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`score_mods::backward`](crate::score_mods::backward).
#[allow(
    clippy::too_many_arguments,
    reason = "a recorder, six tensors, the modifications and a config is what the gradient of attention has"
)]
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
    mods: &GpuScoreMods<'_>,
    config: &AttentionConfig,
) -> Result<GpuModGradients, AttentionError> {
    let plan = Plan::new(q, k, v, config)?.with_mods(recorder, mods)?;
    expect("dout", dout, plan.out_shape())?;
    expect("out", out, plan.out_shape())?;
    expect_lse(lse, plan.lse_shape())?;
    let rows = record_rows(recorder, lse, dout, out, [lse.len(), 1, 0])?;
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

impl<'a> Plan<'a> {
    /// Packed sequences are one row of a batch.
    pub(super) fn with_mods(
        mut self,
        recorder: &mut Recorder,
        mods: &GpuScoreMods<'a>,
    ) -> Result<Self, AttentionError> {
        let sizes = self.sizes;
        let batch = match self.params.is_packed {
            0 => sizes.batch,
            _ => 1,
        };
        let scores = [batch, sizes.n_heads, sizes.seq, sizes.kv_seq];
        if let Some((slopes, origin)) = mods.alibi {
            let n_heads = sizes.n_heads;
            let [got] = axes("slopes", slopes)?;
            if got != n_heads {
                return Err(AttentionError::Slopes { n_heads, got });
            }
            self.slopes = Some(slopes);
            self.params.alibi_origin = match origin {
                AlibiOrigin::KeyIndex => 1,
                AlibiOrigin::LastKeyZero => 2,
                AlibiOrigin::AbsoluteDistance => 3,
                AlibiOrigin::SignedDistance => 4,
                AlibiOrigin::PastDistance => 5,
            };
        }
        if let Some(bias) = mods.bias {
            check_broadcast("bias", axes("bias", bias)?, scores)?;
        }
        if let Some((mask, _)) = mods.mask {
            check_broadcast("mask", axes("mask", mask)?, scores)?;
        }
        if let Some(dropout) = mods.dropout {
            set_dropout(&mut self.params, dropout)?;
        }
        let bias = match mods.mask {
            Some((mask, polarity)) => Some(masked_bias(recorder, mask, polarity, mods.bias)?),
            None => mods.bias.cloned(),
        };
        if let Some(bias) = &bias {
            let [batch, head, query, key] = strides(axes("bias", bias)?);
            self.params = FlashParams {
                has_bias: 1,
                bias_batch: batch,
                bias_head: head,
                bias_query: query,
                bias_key: key,
                ..self.params
            };
        }
        self.bias = bias;
        Ok(self)
    }
}

fn set_dropout(params: &mut FlashParams, dropout: Dropout) -> Result<(), AttentionError> {
    let Dropout { rate, key, offset } = dropout;
    if !(0.0..1.0).contains(&rate) {
        return Err(AttentionError::DropoutRate { got: rate });
    }
    // Words below this are dropped; at most 2^32, which a word cannot hold, so the largest one is sent.
    let threshold = (rate * 2_f64.powi(32)).round() as u64;
    if let Some(last) = threshold.checked_sub(1) {
        params.has_dropout = 1;
        params.last_dropped = last as u32;
        params.keep_scale = (1.0 / (1.0 - rate)) as f32;
        [params.key_low, params.key_high] = [key as u32, (key >> 32) as u32];
        [params.stream_low, params.stream_high] = [offset as u32, (offset >> 32) as u32];
    }
    Ok(())
}

/// One array of a mask and, if there is one, a bias: a scratch tensor.
fn masked_bias(
    recorder: &mut Recorder,
    mask: &GpuTensor<u32>,
    polarity: MaskPolarity,
    bias: Option<&GpuTensor<f32>>,
) -> Result<GpuTensor<f32>, AttentionError> {
    let mask_shape: [usize; 4] = axes("mask", mask)?;
    let bias_shape: [usize; 4] = bias.map_or(Ok([1; 4]), |bias| axes("bias", bias))?;
    let shape: [usize; 4] = std::array::from_fn(|axis| match mask_shape[axis] {
        1 => bias_shape[axis],
        length => length,
    });
    let y = recorder.scratch::<f32>(&shape)?;
    let [mask_batch, mask_head, mask_query, mask_key] = strides(mask_shape);
    let [bias_batch, bias_head, bias_query, bias_key] = strides(bias_shape);
    let params = MaskedBiasParams {
        n_elements: word(y.len()),
        true_hides: u32::from(polarity == MaskPolarity::TrueHides),
        has_bias: u32::from(bias.is_some()),
        n_heads: word(shape[1]),
        n_queries: word(shape[2]),
        n_keys: word(shape[3]),
        mask_batch,
        mask_head,
        mask_query,
        mask_key,
        bias_batch,
        bias_head,
        bias_query,
        bias_key,
        pad0: 0,
        pad1: 0,
    };
    let grid = Grid::linear(y.len(), WORKGROUP_SIZE)?;
    let bindings = [
        mask.read(),
        bias.map_or(mask.read(), GpuTensor::read),
        y.write(),
    ];
    recorder.dispatch(&MASKED_BIAS, &[], &params, &bindings, grid)?;
    Ok(y)
}

/// One workgroup for each tile that is not summed. Of packed sequences, what no workgroup writes is zero.
pub(super) fn record_dbias(
    recorder: &mut Recorder,
    plan: &Plan<'_>,
    dout: &GpuTensor<f32>,
    rows: &GpuTensor<f32>,
    bias: &GpuTensor<f32>,
) -> Result<GpuTensor<f32>, AttentionError> {
    let sizes = plan.sizes;
    let dbias = recorder.gpu().zeros::<f32>(bias.shape())?;
    if rows.is_empty() || sizes.kv_seq == 0 || sizes.value_dim == 0 {
        // No score, or none that matters. Axes beside a zero may have any length.
        return Ok(dbias);
    }
    let strides = strides(axes("bias", bias)?);
    let [grad_batch, grad_head, grad_query, grad_key] = strides;
    let kept = |axis: usize, parts: usize| if strides[axis] == 0 { 1 } else { parts };
    let q_tiles = kept(2, sizes.seq.div_ceil(TILE));
    let kv_tiles = kept(3, plan.longest);
    // Packed sequences have lists of tiles: of queries if there is a gradient for each, else of keys.
    let side = usize::from(grad_query == 0);
    let (tiles, kv_tiles) = match (plan.params.is_packed, side) {
        (0, _) => (kept(0, sizes.batch).saturating_mul(q_tiles), kv_tiles),
        (_, 0) => (plan.tiles[0], kv_tiles),
        _ => (kept(3, plan.tiles[1]), 1),
    };
    let n_items = [tiles, kept(1, sizes.n_heads), kv_tiles]
        .into_iter()
        .fold(1, usize::saturating_mul);
    let params = FlashParams {
        n_items: word(n_items),
        n_column_tiles: word(kv_tiles),
        n_tiles: word(q_tiles),
        tiles: plan.tile_lists[side],
        grad_batch,
        grad_head,
        grad_query,
        grad_key,
        ..plan.params
    };
    let more = [dout.read(), rows.read(), dbias.write()];
    plan.dispatch_with(recorder, &FLASH_DBIAS, 1, &params, n_items, &more)?;
    Ok(dbias)
}

pub(super) fn record_dslopes(
    recorder: &mut Recorder,
    plan: &Plan<'_>,
    dout: &GpuTensor<f32>,
    rows: &GpuTensor<f32>,
    slopes: &GpuTensor<f32>,
) -> Result<GpuTensor<f32>, AttentionError> {
    let sizes = plan.sizes;
    if rows.is_empty() || sizes.kv_seq == 0 {
        return Ok(recorder.gpu().zeros(slopes.shape())?);
    }
    let dslopes = recorder.output::<f32>(slopes.shape())?;
    let n_tiles = plan.tiles[0];
    let sums = recorder.scratch::<f32>(&[sizes.n_heads, n_tiles])?;
    let more = [dout.read(), rows.read(), sums.write()];
    plan.over_queries(recorder, &FLASH_DSLOPES, 1, &more)?;
    let params = RowSumsParams {
        n_rows: word(sizes.n_heads),
        n_columns: word(n_tiles),
        pad0: 0,
        pad1: 0,
    };
    let grid = Grid::linear(sizes.n_heads, 1)?;
    let bindings = [sums.read(), dslopes.write()];
    recorder.dispatch(&ROW_SUMS, &[], &params, &bindings, grid)?;
    Ok(dslopes)
}

/// Elements from one to the next along each axis; 0 along those of length 1, which count for all.
fn strides(shape: [usize; 4]) -> [u32; 4] {
    let mut strides = [0; 4];
    let mut stride = 1_usize;
    for axis in (0..4).rev() {
        if shape[axis] != 1 {
            strides[axis] = word(stride);
        }
        stride = stride.wrapping_mul(shape[axis]);
    }
    strides
}

fn check_broadcast(
    name: &'static str,
    got: [usize; 4],
    expected: [usize; 4],
) -> Result<(), AttentionError> {
    let fits = |axis: usize| got[axis] == 1 || got[axis] == expected[axis];
    if (0..4).all(fits) {
        return Ok(());
    }
    Err(AttentionError::Broadcast {
        name,
        expected,
        got,
    })
}
