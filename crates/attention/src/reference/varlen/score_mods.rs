//! Score modifications of packed sequences: one sequence with distances and dropout in blocks on the diagonal.

use ndarray::{Array2, Array3, Array4, ArrayRef3, ArrayRef4, Axis, s};

use super::{block_mask, heads_first, tokens_first};
use crate::reference::attention::{Extras, attend, gradients};
use crate::reference::score_mods::{alibi_matrix, check, dropout_factor, of_scores};
use crate::varlen::{self, score_mods::Gradients};
use crate::{AlibiOrigin, AttentionConfig, AttentionError, Dropout, ScoreMods};

/// What a slope of ALiBi is multiplied with: `[total, kv_total]`, in blocks on the diagonal.
///
/// Block `n` is the [`alibi_matrix`] of the lengths of sequence `n`; beyond the blocks are zeros. The
/// lists must be as [`varlen::forward`] asks.
fn block_distances(
    origin: AlibiOrigin,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
) -> Array2<f64> {
    let mut all = Array2::zeros((last(cu_seqlens), last(cu_kv_seqlens)));
    for (q, k) in cu_seqlens.windows(2).zip(cu_kv_seqlens.windows(2)) {
        let block = alibi_matrix(origin, q[1] - q[0], k[1] - k[0]);
        all.slice_mut(s![q[0]..q[1], k[0]..k[1]]).assign(&block);
    }
    all
}

/// What dropout multiplies the weights with: `[1, n_heads, total, kv_total]`.
///
/// With query `i` and key `j` of sequence `n`, both counted from its start, the word
///
/// ```text
/// word j of the stream   offset + n_heads cu_seqlens[n] + h (cu_seqlens[n + 1] - cu_seqlens[n]) + i
/// ```
///
/// decides; beyond the blocks on the diagonal are zeros. The lists must be as [`varlen::forward`] asks.
fn block_dropout(
    dropout: Dropout,
    n_heads: usize,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
) -> Array4<f64> {
    let shape = (1, n_heads, last(cu_seqlens), last(cu_kv_seqlens));
    let mut all = Array4::zeros(shape);
    for (q, k) in cu_seqlens.windows(2).zip(cu_kv_seqlens.windows(2)) {
        for h in 0..n_heads {
            for query in q[0]..q[1] {
                for key in k[0]..k[1] {
                    let stream = n_heads * q[0] + h * (q[1] - q[0]) + query - q[0];
                    let word = (key - k[0]) as u64;
                    all[[0, h, query, key]] = dropout_factor(dropout, stream as u64, word);
                }
            }
        }
    }
    all
}

/// `dropout(softmax(softcap(scale Q K^T) + slope D + bias + blocks)) V` for each head, and the
/// log-sum-exp of its rows.
///
/// # Shapes
///
/// As [`varlen::score_mods::forward`]. The lists are not checked: they must be as it asks.
///
/// # Errors
///
/// [`AttentionError`] for arrays that do not fit each other, and for a config that is refused.
///
/// Source: as [`reference::score_mods::forward`](crate::reference::score_mods::forward), under the
/// mask of [`reference::varlen::forward`](super::forward).
pub fn forward(
    q: &ArrayRef3<f64>,
    k: &ArrayRef3<f64>,
    v: &ArrayRef3<f64>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    mods: &ScoreMods<'_, f64>,
    config: &AttentionConfig,
) -> Result<(Array3<f64>, Array2<f64>), AttentionError> {
    let lists = [cu_seqlens, cu_kv_seqlens];
    let sees = |_, _| block_mask(config, cu_seqlens, cu_kv_seqlens);
    let [q, k, v] = [q, k, v].map(heads_first);
    let extras = extras(&q, &k, lists, mods)?;
    let (out, lse) = attend([&q, &k, &v], config, sees, &extras)?;
    Ok((tokens_first(out), lse.remove_axis(Axis(0))))
}

/// The gradients of [`forward`], under the same mask.
///
/// # Shapes
///
/// - `dout`: `[total, n_heads, value_dim]`
/// - returns: [`Gradients`], each shaped as what it is for
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` has another shape.
#[allow(
    clippy::too_many_arguments,
    reason = "four arrays, two lists, the modifications and a config is what it takes"
)]
pub fn backward(
    dout: &ArrayRef3<f64>,
    q: &ArrayRef3<f64>,
    k: &ArrayRef3<f64>,
    v: &ArrayRef3<f64>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    mods: &ScoreMods<'_, f64>,
    config: &AttentionConfig,
) -> Result<Gradients<f64>, AttentionError> {
    let lists = [cu_seqlens, cu_kv_seqlens];
    let sees = |_, _| block_mask(config, cu_seqlens, cu_kv_seqlens);
    let [dout, q, k, v] = [dout, q, k, v].map(heads_first);
    let extras = extras(&q, &k, lists, mods)?;
    let all = gradients(&dout, [&q, &k, &v], config, sees, &extras)?;
    let (dbias, dslopes) = of_scores(all.dscores, &extras);
    let [dq, dk, dv] = [all.inputs.dq, all.inputs.dk, all.inputs.dv].map(tokens_first);
    Ok(Gradients {
        inputs: varlen::Gradients { dq, dk, dv },
        dbias,
        dslopes,
    })
}

fn extras<'a>(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    [cu_seqlens, cu_kv_seqlens]: [&[usize]; 2],
    mods: &ScoreMods<'a, f64>,
) -> Result<Extras<'a>, AttentionError> {
    check(q, k, mods)?;
    let distances = |(_, origin)| block_distances(origin, cu_seqlens, cu_kv_seqlens);
    let factors = |dropout| block_dropout(dropout, q.dim().1, cu_seqlens, cu_kv_seqlens);
    Ok(Extras {
        sinks: None,
        mods: *mods,
        distances: mods.alibi.map(distances),
        factors: mods.dropout.map(factors),
    })
}

fn last(list: &[usize]) -> usize {
    list.last().copied().unwrap_or(0)
}
