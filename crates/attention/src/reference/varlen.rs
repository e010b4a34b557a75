//! Packed sequences as one sequence under a mask of blocks on the diagonal.

use ndarray::{Array2, Array3, Array4, ArrayRef3, Axis, s};

use super::attention::{Extras, attend, gradients, mask_matrix};
use crate::varlen::Gradients;
use crate::{AttentionConfig, AttentionError};

pub mod score_mods;

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
    let sees = |_, _| block_mask(config, cu_seqlens, cu_kv_seqlens);
    let [q, k, v] = [q, k, v].map(heads_first);
    let (out, lse) = attend([&q, &k, &v], config, sees, &Extras::default())?;
    Ok((tokens_first(out), lse.remove_axis(Axis(0))))
}

/// The gradients of [`forward`], under the same mask.
///
/// # Shapes
///
/// - `dout`: `[total, n_heads, value_dim]`
/// - returns: `dq` shaped as `q`, `dk` as `k`, `dv` as `v`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` has another shape.
pub fn backward(
    dout: &ArrayRef3<f64>,
    q: &ArrayRef3<f64>,
    k: &ArrayRef3<f64>,
    v: &ArrayRef3<f64>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<Gradients<f64>, AttentionError> {
    let sees = |_, _| block_mask(config, cu_seqlens, cu_kv_seqlens);
    let [dout, q, k, v] = [dout, q, k, v].map(heads_first);
    let got = gradients(&dout, [&q, &k, &v], config, sees, &Extras::default())?.inputs;
    let [dq, dk, dv] = [got.dq, got.dk, got.dv].map(tokens_first);
    Ok(Gradients { dq, dk, dv })
}

/// `[1, heads, tokens, features]`.
fn heads_first(x: &ArrayRef3<f64>) -> Array4<f64> {
    let x = x.view().permuted_axes([1, 0, 2]);
    x.to_owned().insert_axis(Axis(0))
}

/// And back: `[tokens, heads, features]`.
fn tokens_first(x: Array4<f64>) -> Array3<f64> {
    x.remove_axis(Axis(0)).permuted_axes([1, 0, 2])
}
