//! Attention by tiles with an online softmax: no array of `seq` times `kv_seq` elements exists.

use ndarray::{Array3, Array4, ArrayRef3, ArrayRef4};

use crate::{AttentionConfig, AttentionError, memory};
use llm_numerics::Float;

mod bias_backward;
pub(crate) mod decode;
mod few_queries;
mod mods;
mod pieces;
mod plan;
mod rows;
mod score_gradients;
pub(crate) mod tile;
mod tile_backward;

pub(crate) use bias_backward::run as run_bias_backward;
pub(crate) use plan::{Plan, check, check_lse, zeros, zeros_lse};
pub(crate) use rows::{Rows, ahead};
pub(crate) use tile_backward::{Saved, run as run_backward};

/// The gradients of [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For the queries: `[batch, n_heads, seq, head_dim]`.
    pub dq: Array4<F>,
    /// For the keys: `[batch, n_kv_heads, kv_seq, head_dim]`.
    pub dk: Array4<F>,
    /// For the values: `[batch, n_kv_heads, kv_seq, value_dim]`.
    pub dv: Array4<F>,
}

/// Attention of queries to keys and values.
///
/// For query `i` of a head, over the keys `j` that the mask lets it see:
///
/// ```text
/// s_ij = scale <q_i, k_j>
/// p_ij = e^(s_ij) / sum_j e^(s_ij)
/// out_i = sum_j p_ij v_j
/// ```
///
/// Query head `h` uses key-value head `h / queries_per_kv`, where
/// `queries_per_kv = n_heads / n_kv_heads`: multi-head attention if that is 1,
/// multi-query attention if `n_kv_heads` is 1, grouped-query attention between.
/// Queries that follow a cached prefix have `kv_seq > seq` and the mask
/// `Causal(BottomRight)`.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, head_dim]`, any strides
/// - `k`: `[batch, n_kv_heads, kv_seq, head_dim]`
/// - `v`: `[batch, n_kv_heads, kv_seq, value_dim]`
/// - returns: `[batch, n_heads, seq, value_dim]`
///
/// A query that sees no key gets zeros.
///
/// # Errors
///
/// - [`AttentionError::Shape`] if `k` or `v` does not fit `q`.
/// - [`AttentionError::Heads`] if `n_heads` is not a multiple of `n_kv_heads`.
/// - [`AttentionError::Scale`] if the scale is not finite in `F`.
/// - [`AttentionError::Softcap`] if the softcap is not positive and finite in `F`.
/// - [`AttentionError::Chunk`] if a chunk of the mask holds no position.
/// - [`AttentionError::Tile`] if a tile is empty.
/// - [`AttentionError::TooLarge`] if the result, a tile, or the keys or values of a head would not fit
///   into memory.
///
/// # Precision
///
/// Sums in `F`. The same bits for any number of threads; other tiles differ by
/// rounding. A NaN, or a score of `inf`, makes the rows NaN that see it, and no others.
/// A row whose scores are all `-inf` counts as one that sees no key.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash};
/// use ndarray::{array, s};
///
/// let q = array![[[[1.0], [1.0]]]]; // [batch, n_heads, seq, head_dim] = [1, 1, 2, 1]
/// let k = array![[[[0.0], [3_f64.ln()]]]];
/// let v = array![[[[4.0, 0.0], [0.0, 8.0]]]];
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let out = flash::forward(&q, &k, &v, &config)?;
/// assert_eq!(out.slice(s![0, 0, 0, ..]), array![4.0, 0.0]); // sees the first key only
/// let want = array![1.0, 6.0]; // weights 1/4 and 3/4
/// assert!((&out.slice(s![0, 0, 1, ..]) - &want).iter().all(|x| x.abs() < 1e-12));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, algorithm 1; grouped queries:
/// Ainslie et al., arXiv:2305.13245v3.
pub fn forward<F: Float>(
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    config: &AttentionConfig,
) -> Result<Array4<F>, AttentionError> {
    let plan = Plan::new(q, k, v, config)?;
    let mut out = zeros(plan.out_shape())?;
    run(&plan, q, k, v, &mut out, None);
    Ok(out)
}

/// [`forward`], and the log-sum-exp of the scores, which [`backward`] needs.
///
/// ```text
/// lse_i = ln sum_j e^(s_ij)
/// ```
///
/// # Shapes
///
/// - `q`, `k`, `v`: as in [`forward`]
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// A query that sees no key has `lse = -inf`.
///
/// # Errors
///
/// As [`forward`].
///
/// # Precision
///
/// `lse` is the maximum plus the logarithm of a sum in `F`. The output has the bits of [`forward`].
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, flash};
/// use ndarray::{Array4, array};
///
/// // With it a weight can be had without all the others: e^(score - lse).
/// let q = array![[[[1.0]]]];
/// let k = array![[[[0.0], [3_f64.ln()]]]];
/// let v = Array4::zeros((1, 1, 2, 1));
/// let (_, lse) = flash::forward_with_lse(&q, &k, &v, &AttentionConfig::new(Mask::Full))?;
/// let weight = (3_f64.ln() - lse[[0, 0, 0]]).exp(); // of the second key
/// assert!((weight - 0.75).abs() < 1e-15);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, algorithm 1 (its `L_i`).
pub fn forward_with_lse<F: Float>(
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    config: &AttentionConfig,
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    let plan = Plan::new(q, k, v, config)?;
    let mut out = zeros(plan.out_shape())?;
    let mut lse = zeros_lse(plan.lse_shape())?;
    run(&plan, q, k, v, &mut out, Some(&mut lse));
    Ok((out, lse))
}

/// [`forward`] into arrays of the caller, any strides; their old content is not read.
///
/// # Shapes
///
/// - `q`, `k`, `v`: as in [`forward`]
/// - `out`: `[batch, n_heads, seq, value_dim]`
/// - `lse`: `[batch, n_heads, seq]`, or `None` if it is not wanted
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] and [`AttentionError::LseShape`] if `out` or
/// `lse` is not of that shape. Nothing is written then.
///
/// # Precision
///
/// The bits of [`forward_with_lse`].
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, flash};
/// use ndarray::Array4;
///
/// let x = Array4::<f32>::ones((1, 2, 3, 4)); // [batch, n_heads, seq, head_dim]
/// // Heads beside each other in a token, as the output projection wants them.
/// let mut tokens = Array4::from_elem((1, 3, 2, 4), f32::NAN); // [batch, seq, n_heads, value_dim]
/// let mut out = tokens.view_mut().permuted_axes([0, 2, 1, 3]);
/// flash::forward_into(&x, &x, &x, &AttentionConfig::new(Mask::Full), &mut out, None)?;
/// assert!(tokens.iter().all(|x| (x - 1.0).abs() < 1e-6));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward`].
pub fn forward_into<F: Float>(
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    config: &AttentionConfig,
    out: &mut ArrayRef4<F>,
    lse: Option<&mut ArrayRef3<F>>,
) -> Result<(), AttentionError> {
    let plan = Plan::new(q, k, v, config)?;
    check("out", plan.out_shape(), out)?;
    if let Some(lse) = &lse {
        check_lse(plan.lse_shape(), lse)?;
    }
    run(&plan, q, k, v, out, lse);
    Ok(())
}

pub(crate) fn run<F: Float>(
    plan: &Plan<'_, F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    out: &mut ArrayRef4<F>,
    lse: Option<&mut ArrayRef3<F>>,
) {
    if plan.seq == 1 {
        decode::run(plan, q, k, v, out, lse);
    } else {
        tile::run(plan, q, k, v, out, lse);
    }
}

/// The gradients of [`forward`] for queries, keys and values.
///
/// With the probabilities computed anew from `lse`, tile by tile:
///
/// ```text
/// p_ij  = e^(s_ij - lse_i)
/// d_i   = <dout_i, out_i>
/// ds_ij = p_ij (<dout_i, v_j> - d_i)
/// dq_i  = scale sum_j ds_ij k_j
/// dk_j  = scale sum_i ds_ij q_i     (over all query heads of the group)
/// dv_j  = sum_i p_ij dout_i
/// ```
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`; `lse`: `[batch, n_heads, seq]`,
///   both from [`forward_with_lse`] with the same arrays and config
/// - `q`, `k`, `v`: as in [`forward`]
/// - returns: `dq` shaped as `q`, `dk` as `k`, `dv` as `v`
///
/// A query that sees no key has the gradient zero and adds nothing to the others.
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] and [`AttentionError::LseShape`] if `dout`,
/// `out` or `lse` does not have the shape above.
///
/// # Precision
///
/// Sums in `F`, in an order that does not depend on the number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, flash};
/// use ndarray::Array4;
///
/// let q = Array4::<f32>::ones((1, 4, 3, 8)); // [batch, n_heads, seq, head_dim]
/// let k = Array4::<f32>::ones((1, 2, 5, 8)); // [batch, n_kv_heads, kv_seq, head_dim]
/// let config = AttentionConfig::new(Mask::Full);
/// let (out, lse) = flash::forward_with_lse(&q, &k, &k, &config)?;
/// let dout = Array4::ones(out.dim());
/// let gradients = flash::backward(&dout, &q, &k, &k, &out, &lse, &config)?;
/// // Equal keys: each of the 5 gets a fifth of the weight of 2 heads times 3 queries.
/// assert!(gradients.dv.iter().all(|x| (x - 6.0 / 5.0).abs() < 1e-6));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, algorithm 2.
pub fn backward<F: Float>(
    dout: &ArrayRef4<F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    config: &AttentionConfig,
) -> Result<Gradients<F>, AttentionError> {
    let plan = Plan::new(q, k, v, config)?;
    check_saved(&plan, dout, out, lse)?;
    let mut dq = zeros(q.dim().into())?;
    let mut dk = zeros(k.dim().into())?;
    let mut dv = zeros(v.dim().into())?;
    let saved = Saved { dout, out, lse };
    run_backward(&plan, &saved, q, k, v, [&mut dq, &mut dk, &mut dv]);
    Ok(Gradients { dq, dk, dv })
}

/// [`backward`] into arrays of the caller, any strides; their old content is overwritten.
///
/// # Shapes
///
/// - the inputs as in [`backward`]
/// - `dq`: as `q`, `dk`: as `k`, `dv`: as `v`
///
/// # Errors
///
/// As [`backward`]; also [`AttentionError::Shape`] if `dq`, `dk` or `dv` is not of that shape.
/// Nothing is written then.
///
/// # Precision
///
/// The bits of [`backward`].
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, flash};
/// use ndarray::{Array4, Axis};
///
/// let x = Array4::<f32>::ones((1, 2, 3, 4)); // [batch, n_heads, seq, head_dim]
/// let config = AttentionConfig::new(Mask::Full);
/// let (out, lse) = flash::forward_with_lse(&x, &x, &x, &config)?;
/// // One array for all three, as a joint projection of queries, keys and values wants it.
/// let mut joint = Array4::zeros((1, 2, 3, 3 * 4));
/// let (mut dq, rest) = joint.view_mut().split_at(Axis(3), 4);
/// let (mut dk, mut dv) = rest.split_at(Axis(3), 4);
/// flash::backward_into(&x, &x, &x, &x, &out, &lse, &config, &mut dq, &mut dk, &mut dv)?;
/// assert!((joint[[0, 0, 0, 8]] - 1.0).abs() < 1e-6); // dv: three thirds
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`backward`].
#[allow(
    clippy::too_many_arguments,
    reason = "seven arrays in and three out is what the gradient of attention has"
)]
pub fn backward_into<F: Float>(
    dout: &ArrayRef4<F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    config: &AttentionConfig,
    dq: &mut ArrayRef4<F>,
    dk: &mut ArrayRef4<F>,
    dv: &mut ArrayRef4<F>,
) -> Result<(), AttentionError> {
    let plan = Plan::new(q, k, v, config)?;
    check_saved(&plan, dout, out, lse)?;
    check("dq", q.dim().into(), dq)?;
    check("dk", k.dim().into(), dk)?;
    check("dv", v.dim().into(), dv)?;
    let saved = Saved { dout, out, lse };
    run_backward(&plan, &saved, q, k, v, [dq, dk, dv]);
    Ok(())
}

pub(crate) fn check_saved<F: Float>(
    plan: &Plan<'_, F>,
    dout: &ArrayRef4<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
) -> Result<(), AttentionError> {
    check("dout", plan.out_shape(), dout)?;
    check("out", plan.out_shape(), out)?;
    check_lse(plan.lse_shape(), lse)?;
    let [batch, n_heads, seq] = plan.lse_shape();
    memory::fits::<F>([1, batch, n_heads, seq])
}
