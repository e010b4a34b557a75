//! What changes scores and weights besides the config: ALiBi, a bias, a boolean mask, dropout.

use ndarray::{Array1, Array3, Array4, ArrayRef1, ArrayRef3, ArrayRef4};

use crate::flash::{self, Plan, zeros, zeros_lse};
use crate::{AttentionConfig, AttentionError, memory};
use llm_numerics::Float;

/// What ALiBi multiplies the slope of a head with, at key `j` and a query of position `p`.
///
/// The position is `p = i + kv_seq - seq` for query `i`, whatever the alignment of the mask. All
/// but `AbsoluteDistance` and `PastDistance` differ by a number for each query, which the softmax
/// does not see: they give the same result, and another log-sum-exp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlibiOrigin {
    /// `j`: BLOOM and Falcon in transformers.
    KeyIndex,
    /// `j - (kv_seq - 1)`: MPT in transformers.
    LastKeyZero,
    /// `-|p - j|`: FlashAttention's `alibi_slopes`, llama.cpp.
    AbsoluteDistance,
    /// `j - p`: Press et al., arXiv:2108.12409v2, section 3, where only `j <= p` occurs.
    SignedDistance,
    /// `min(j - p, 0)`: keys after the query get no penalty and no reward.
    PastDistance,
}

/// What `true` means in a boolean mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MaskPolarity {
    /// `true`: the query sees the key. torch's `scaled_dot_product_attention`, transformers' masks,
    /// ONNX, JAX.
    TrueAttends,
    /// `true`: the key is hidden. `key_padding_mask` and `attn_mask` of torch's
    /// `MultiheadAttention`, burn.
    TrueHides,
}

/// Weights that are dropped in training, as a function of key, offset and place.
///
/// A weight is dropped with probability `rate`; those that stay are divided by `1 - rate`. The
/// weight of query `i` of head `h` in batch row `b` for key `j` stays if word `j` of the stream
/// `offset + (b * n_heads + h) * seq + i` of [`Philox4x32`](llm_numerics::philox::Philox4x32) with
/// this key is at least `rate * 2^32`, rounded to the nearest integer: the same on every device, and again in the backward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability that a weight is dropped: at least 0 and below 1.
    pub rate: f64,
    /// The key of the generator (the "seed").
    pub key: u64,
    /// The first stream; the next call takes `batch * n_heads * seq` more.
    pub offset: u64,
}

/// What changes scores and weights besides the [`AttentionConfig`]. By default nothing.
///
/// In this order: scale, softcap, ALiBi, bias, masks, softmax, dropout.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ScoreMods<'a, F> {
    /// Slopes of ALiBi, `[n_heads]`, and what they are multiplied with.
    #[doc(alias = "alibi_slopes")]
    pub alibi: Option<(&'a ArrayRef1<F>, AlibiOrigin)>,
    /// Added to the scores: `[batch, n_heads, seq, kv_seq]`, where an axis may have the length 1
    /// and then counts for all. A bias of `-inf` hides the key.
    #[doc(alias = "attn_mask")]
    pub bias: Option<&'a ArrayRef4<F>>,
    /// Hides keys, besides the mask of the config. Shaped as a bias may be.
    pub mask: Option<(&'a ArrayRef4<bool>, MaskPolarity)>,
    /// Drops weights.
    pub dropout: Option<Dropout>,
}

impl<F> Default for ScoreMods<'_, F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, F> ScoreMods<'a, F> {
    /// Nothing that changes a score.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            alibi: None,
            bias: None,
            mask: None,
            dropout: None,
        }
    }

    /// Sets [`alibi`](Self::alibi).
    #[must_use]
    pub const fn with_alibi(mut self, slopes: &'a ArrayRef1<F>, origin: AlibiOrigin) -> Self {
        self.alibi = Some((slopes, origin));
        self
    }

    /// Sets the [`bias`](Self::bias).
    #[must_use]
    pub const fn with_bias(mut self, bias: &'a ArrayRef4<F>) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Sets the [`mask`](Self::mask).
    #[must_use]
    pub const fn with_mask(mut self, mask: &'a ArrayRef4<bool>, polarity: MaskPolarity) -> Self {
        self.mask = Some((mask, polarity));
        self
    }

    /// Sets the [`dropout`](Self::dropout).
    #[must_use]
    pub const fn with_dropout(mut self, dropout: Dropout) -> Self {
        self.dropout = Some(dropout);
        self
    }
}

/// The gradients of [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For queries, keys and values.
    pub inputs: flash::Gradients<F>,
    /// For the bias, shaped as it is; `None` if there is none.
    pub dbias: Option<Array4<F>>,
    /// For the slopes of ALiBi, `[n_heads]`; `None` if there are none.
    pub dslopes: Option<Array1<F>>,
}

/// Attention with modified scores and weights, and the log-sum-exp of the scores.
///
/// As [`flash::forward_with_lse`], where, with the distance `d_ij`
/// of [`AlibiOrigin`] and `z_ij` 0 for a weight that is dropped, 1 otherwise:
///
/// ```text
/// s_ij = softcap(scale <q_i, k_j>) + slope_h d_ij + bias_ij
/// p_ij = e^(s_ij) / sum_j e^(s_ij)       over the keys that no mask hides
/// out_i = sum_j z_ij p_ij v_j / (1 - rate)
/// ```
///
/// It goes tile by tile too; tiles that a mask or a bias of `-inf` hides are skipped.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, head_dim]`, any strides
/// - `k`: `[batch, n_kv_heads, kv_seq, head_dim]`
/// - `v`: `[batch, n_kv_heads, kv_seq, value_dim]`
/// - `mods`: slopes `[n_heads]`; bias and mask `[batch, n_heads, seq, kv_seq]`, where each axis may
///   have the length 1 and then counts for all
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// A query that sees no key gets zeros and `-inf`.
///
/// # Errors
///
/// Those of [`flash::forward`], and
///
/// - [`AttentionError::Slopes`] if there are not as many slopes as heads.
/// - [`AttentionError::Broadcast`] if a bias or a mask does not fit the scores.
/// - [`AttentionError::DropoutRate`] if the rate is not at least 0 and below 1.
///
/// # Precision
///
/// As [`flash::forward`]. Distances are exact up to 2^24 in `f32`. A NaN
/// bias or slope makes the rows NaN that it counts for; hidden keys and values may be NaN.
///
/// # Example
///
/// ```
/// use llm_attention::{AlibiOrigin, AttentionConfig, CausalAlignment, Mask, MaskPolarity};
/// use llm_attention::{ScoreMods, score_mods};
/// use ndarray::{Array4, array};
///
/// let q = Array4::<f32>::ones((2, 4, 3, 8)); // [batch, n_heads, seq, head_dim]
/// let k = Array4::<f32>::ones((2, 2, 3, 8)); // [batch, n_kv_heads, kv_seq, head_dim]
/// let slopes = array![0.25, 0.0625, 0.015625, 0.00390625]; // [n_heads]
/// // The first token of the second sequence is padding: [batch, 1, 1, kv_seq].
/// let keys = array![[[[true, true, true]]], [[[false, true, true]]]];
/// let mods = ScoreMods::new()
///     .with_alibi(&slopes, AlibiOrigin::SignedDistance)
///     .with_mask(&keys, MaskPolarity::TrueAttends);
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let (out, lse) = score_mods::forward(&q, &k, &k, &mods, &config)?;
/// assert_eq!(out[[1, 0, 0, 0]], 0.0); // sees padding only
/// assert_eq!(lse[[1, 0, 0]], f32::NEG_INFINITY);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: ALiBi: Press et al., arXiv:2108.12409v2, section 3, added after the softcap as in
/// FlashAttention 2.8; dropout on normalized weights: Dao et al., arXiv:2205.14135v2, appendix B.
pub fn forward<F: Float>(
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    mods: &ScoreMods<'_, F>,
    config: &AttentionConfig,
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    let plan = Plan::with_mods(q, k, v, mods, config)?;
    let mut out = zeros(plan.out_shape())?;
    let mut lse = zeros_lse(plan.lse_shape())?;
    flash::run(&plan, q, k, v, &mut out, Some(&mut lse));
    Ok((out, lse))
}

/// The gradients of [`forward`] for queries, keys, values, the bias and the slopes.
///
/// As [`flash::backward`], where
///
/// ```text
/// ds_ij  = p_ij (z_ij / (1 - rate) <dout_i, v_j> - <dout_i, out_i>)
/// dv_j   = sum_i z_ij p_ij / (1 - rate) dout_i
/// dbias  = ds, summed over the axes along which the bias has the length 1
/// dslope = sum_ij ds_ij d_ij
/// ```
///
/// and `dq` and `dk` get `ds` times the slope of the softcap. The gradient of a bias costs the
/// scores once more, that is, two of the seven products of matrices that there are then.
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`; `lse`: `[batch, n_heads, seq]`, both from
///   [`forward`] with the same arrays, modifications and config
/// - the others as in [`forward`]
/// - returns: [`Gradients`], each shaped as what it is for
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
/// Sums in `F`, that of the slopes in `f64`, in an order that does not depend on the number of
/// threads.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, ScoreMods, score_mods};
/// use ndarray::Array4;
///
/// let x = Array4::<f64>::ones((1, 2, 3, 4)); // [batch, n_heads, seq, head_dim]
/// let bias = Array4::zeros((1, 1, 3, 3)); // for all heads
/// let (mods, config) = (ScoreMods::new().with_bias(&bias), AttentionConfig::new(Mask::Full));
/// let (out, lse) = score_mods::forward(&x, &x, &x, &mods, &config)?;
/// let dout = Array4::ones(out.dim());
/// let gradients = score_mods::backward(&dout, &x, &x, &x, &out, &lse, &mods, &config)?;
/// // All values are the same: the weights do not matter.
/// assert!(gradients.dbias.unwrap().iter().all(|x| x.abs() < 1e-12));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, algorithm 2; with dropout: Dao et al.,
/// arXiv:2205.14135v2, algorithm 4.
#[allow(
    clippy::too_many_arguments,
    reason = "six arrays, the modifications and a config is what the gradient of attention has"
)]
pub fn backward<F: Float>(
    dout: &ArrayRef4<F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    mods: &ScoreMods<'_, F>,
    config: &AttentionConfig,
) -> Result<Gradients<F>, AttentionError> {
    let plan = Plan::with_mods(q, k, v, mods, config)?;
    flash::check_saved(&plan, dout, out, lse)?;
    let mut dq = zeros(q.dim().into())?;
    let mut dk = zeros(k.dim().into())?;
    let mut dv = zeros(v.dim().into())?;
    let dbias = mods.bias.map(|bias| zeros::<F>(bias.dim().into()));
    let mut dbias = dbias.transpose()?;
    memory::fits::<f64>([1, 1, 1, q.dim().1])?;
    let saved = flash::Saved { dout, out, lse };
    let of_rows = flash::run_backward(&plan, &saved, q, k, v, [&mut dq, &mut dk, &mut dv]);
    if let Some(dbias) = &mut dbias {
        flash::run_bias_backward(&plan, &saved, q, k, v, dbias);
    }
    let dslopes = mods.alibi.map(|(slopes, _)| {
        let mut sums = vec![0.0; slopes.len()];
        for of_row in of_rows.chunks_exact(slopes.len().max(1)) {
            sums.iter_mut().zip(of_row).for_each(|(sum, x)| *sum += x);
        }
        sums.into_iter().map(F::from_f64).collect()
    });
    Ok(Gradients {
        inputs: flash::Gradients { dq, dk, dv },
        dbias,
        dslopes,
    })
}
