//! Packed sequences as one sequence under a mask of blocks on the diagonal.

use ndarray::{Array2, Array3, Array4, ArrayRef3, Axis, s};

use super::attention::{check, mask_matrix, scores, softmax};
use crate::varlen::Gradients;
use crate::{AttentionConfig, AttentionError};

/// Which pairs of query and key take part: `[total, kv_total]`, in blocks on the diagonal.
///
/// Block `n` is the [`mask_matrix`] of the lengths of sequence `n`. The lists must be as
/// [`varlen::forward`](crate::varlen::forward) asks; pairs beyond them take no part.
#[must_use]
pub fn block_mask(
    config: &AttentionConfig,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
) -> Array2<bool> {
    let total = |list: &[usize]| list.last().copied().unwrap_or(0);
    let mut mask = Array2::from_elem((total(cu_seqlens), total(cu_kv_seqlens)), false);
    for (q, k) in cu_seqlens.windows(2).zip(cu_kv_seqlens.windows(2)) {
        let block = mask_matrix(config.mask, q[1] - q[0], k[1] - k[0]);
        mask.slice_mut(s![q[0]..q[1], k[0]..k[1]]).assign(&block);
    }
    mask
}

/// `softmax(scale Q K^T + blocks) V` for each head, and the log-sum-exp of its rows.
///
/// # Shapes
///
/// As [`varlen::forward_with_lse`](crate::varlen::forward_with_lse). The lists are not checked:
/// they must be as it asks.
///
/// # Errors
///
/// [`AttentionError`] for arrays that do not fit each other, and for a config that is refused.
///
/// Source: the mask of transformers 5.23.0, `masking_utils.packed_sequence_mask_function`.
pub fn forward(
    q: &ArrayRef3<f64>,
    k: &ArrayRef3<f64>,
    v: &ArrayRef3<f64>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<(Array3<f64>, Array2<f64>), AttentionError> {
    let [q4, k4, v4] = [q, k, v].map(heads_first);
    let (group, scale) = check(&q4, &k4, &v4, config)?;
    let sees = block_mask(config, cu_seqlens, cu_kv_seqlens);
    let (total, n_heads, _) = q.dim();
    let mut out = Array3::zeros((total, n_heads, v.dim().2));
    let mut lse = Array2::zeros((n_heads, total));
    for h in 0..n_heads {
        let q = q4.slice(s![0, h, .., ..]);
        let k = k4.slice(s![0, h / group, .., ..]);
        let v = v4.slice(s![0, h / group, .., ..]);
        let (p, row_lse) = softmax(scores(&q, &k, scale, config.softcap, &sees));
        let rows: Array2<f64> = p.dot(&v);
        out.slice_mut(s![.., h, ..]).assign(&rows);
        lse.row_mut(h).assign(&row_lse.column(0));
    }
    Ok((out, lse))
}

/// The gradients of [`forward`]: those of each sequence alone.
///
/// # Shapes
///
/// - `dout`: `[total, n_heads, value_dim]`
/// - returns: `dq` shaped as `q`, `dk` as `k`, `dv` as `v`
///
/// # Errors
///
/// As [`forward`], and as
/// [`reference::attention::backward`](super::attention::backward) if `dout` does not fit.
pub fn backward(
    dout: &ArrayRef3<f64>,
    q: &ArrayRef3<f64>,
    k: &ArrayRef3<f64>,
    v: &ArrayRef3<f64>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<Gradients<f64>, AttentionError> {
    let mut gradients = Gradients {
        dq: Array3::zeros(q.dim()),
        dk: Array3::zeros(k.dim()),
        dv: Array3::zeros(v.dim()),
    };
    for (queries, keys) in cu_seqlens.windows(2).zip(cu_kv_seqlens.windows(2)) {
        let queries = s![queries[0]..queries[1], .., ..];
        let keys = s![keys[0]..keys[1], .., ..];
        let [dout, q] = [dout, q].map(|x| heads_first(&x.slice(queries)));
        let [k, v] = [k, v].map(|x| heads_first(&x.slice(keys)));
        let alone = super::attention::backward(&dout, &q, &k, &v, config)?;
        let (dq, dk, dv) = (&mut gradients.dq, &mut gradients.dk, &mut gradients.dv);
        for (all, part, tokens) in [
            (dq, alone.dq, queries),
            (dk, alone.dk, keys),
            (dv, alone.dv, keys),
        ] {
            let part = part.index_axis_move(Axis(0), 0).permuted_axes([1, 0, 2]);
            all.slice_mut(tokens).assign(&part);
        }
    }
    Ok(gradients)
}

/// `[1, heads, tokens, features]`.
fn heads_first(x: &ArrayRef3<f64>) -> Array4<f64> {
    let x = x.view().permuted_axes([1, 0, 2]);
    x.to_owned().insert_axis(Axis(0))
}
