//! Score modifications as a textbook writes them: matrices that are added to the scores, or multiplied with the weights.

use ndarray::{Array1, Array2, Array3, Array4, ArrayRef4, Axis};

use super::attention::{Extras, attend, gradients, mask_matrix};
use crate::score_mods::Gradients;
use crate::{AlibiOrigin, AttentionConfig, AttentionError, Dropout, MaskPolarity, ScoreMods};
use llm_numerics::philox::Philox4x32;

/// What a slope of ALiBi is multiplied with: `[seq, kv_seq]`.
///
/// With `p = i + kv_seq - seq`:
///
/// ```text
/// key index           j
/// last key zero       j - (kv_seq - 1)
/// absolute distance   -|p - j|
/// signed distance     j - p
/// past distance       min(j - p, 0)
/// ```
#[must_use]
pub fn alibi_matrix(origin: AlibiOrigin, seq: usize, kv_seq: usize) -> Array2<f64> {
    Array2::from_shape_fn((seq, kv_seq), |(i, j)| {
        let j = j as f64;
        let p = i as f64 + kv_seq as f64 - seq as f64;
        match origin {
            AlibiOrigin::KeyIndex => j,
            AlibiOrigin::LastKeyZero => j - (kv_seq as f64 - 1.0),
            AlibiOrigin::AbsoluteDistance => -(p - j).abs(),
            AlibiOrigin::SignedDistance => j - p,
            AlibiOrigin::PastDistance => (j - p).min(0.0),
        }
    })
}

/// `dropout(softmax(softcap(scale Q K^T) + slope D + bias + mask)) V` for each head, and the
/// log-sum-exp of its rows.
///
/// # Shapes
///
/// As [`score_mods::forward`](crate::score_mods::forward).
///
/// # Errors
///
/// As [`score_mods::forward`](crate::score_mods::forward), but tiles do not matter.
///
/// Source: the order is that of FlashAttention 2.8, which adds ALiBi after the softcap; ALiBi:
/// Press et al., arXiv:2108.12409v2, section 3; dropout: Dao et al., arXiv:2205.14135v2, appendix B.
pub fn forward(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    mods: &ScoreMods<'_, f64>,
    config: &AttentionConfig,
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    check(q, k, mods)?;
    let sees = |seq, kv_seq| mask_matrix(config.mask, seq, kv_seq);
    attend([q, k, v], config, sees, &extras(q, k, mods))
}

/// The gradients of [`forward`], by the chain rule on whole matrices.
///
/// As those of [`reference::attention::backward`](super::attention::backward), where `dP` is
/// multiplied with the dropout as `P` was, and with the gradient of the scores before the softcap
/// and the scale:
///
/// ```text
/// dbias  = sum of dS over the axes of length 1
/// dslope = sum of dS D
/// ```
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` has another shape.
pub fn backward(
    dout: &ArrayRef4<f64>,
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    mods: &ScoreMods<'_, f64>,
    config: &AttentionConfig,
) -> Result<Gradients<f64>, AttentionError> {
    check(q, k, mods)?;
    let sees = |seq, kv_seq| mask_matrix(config.mask, seq, kv_seq);
    let extras = extras(q, k, mods);
    let all = gradients(dout, [q, k, v], config, sees, &extras)?;
    let (dbias, dslopes) = of_scores(all.dscores, &extras);
    Ok(Gradients {
        inputs: all.inputs,
        dbias,
        dslopes,
    })
}

/// The gradients of the bias and of the slopes from those of the scores.
pub(super) fn of_scores(
    dscores: Array4<f64>,
    extras: &Extras<'_>,
) -> (Option<Array4<f64>>, Option<Array1<f64>>) {
    let dslopes = extras.distances.as_ref().map(|distances| {
        let of_head = |ds: ndarray::ArrayView3<'_, f64>| (&ds * distances).sum();
        dscores
            .axis_iter(Axis(1))
            .map(of_head)
            .collect::<Array1<_>>()
    });
    let dbias = extras.mods.bias.map(|bias| {
        let mut sum = dscores;
        for axis in 0..4 {
            if bias.shape()[axis] == 1 {
                sum = sum.sum_axis(Axis(axis)).insert_axis(Axis(axis));
            }
        }
        sum
    });
    (dbias, dslopes)
}

/// The scores of a head with all that is added to them, `-inf` where a key is hidden.
pub(super) fn score_matrix(
    bent: Array2<f64>,
    sees: &Array2<bool>,
    extras: &Extras<'_>,
    [b, h]: [usize; 2],
) -> Array2<f64> {
    let mods = &extras.mods;
    let mut scores = bent;
    if let (Some((slopes, _)), Some(distances)) = (mods.alibi, &extras.distances) {
        scores += &(slopes[h] * distances);
    }
    for ((i, j), score) in scores.indexed_iter_mut() {
        if let Some(bias) = mods.bias {
            let bias = bias[broadcast(bias.dim().into(), [b, h, i, j])];
            *score = if bias == f64::NEG_INFINITY {
                bias // whatever the score is
            } else {
                *score + bias
            };
        }
        let attends = mods.mask.is_none_or(|(mask, polarity)| {
            let is_true = mask[broadcast(mask.dim().into(), [b, h, i, j])];
            is_true == (polarity == MaskPolarity::TrueAttends)
        });
        if !(attends && sees[[i, j]]) {
            *score = f64::NEG_INFINITY;
        }
    }
    scores
}

/// What dropout multiplies the weights with, 0 or `1 / (1 - rate)`: `[batch, n_heads, seq, kv_seq]`.
fn dropout_factors(dropout: Dropout, shape: [usize; 4]) -> Array4<f64> {
    let [_, n_heads, seq, _] = shape;
    Array4::from_shape_fn(shape, |(b, h, i, j)| {
        let row = (b * n_heads + h) * seq + i;
        dropout_factor(dropout, row as u64, j as u64)
    })
}

/// One of them: of key `j` and the row-th stream of the call.
pub(super) fn dropout_factor(dropout: Dropout, row: u64, j: u64) -> f64 {
    let word = Philox4x32::new(dropout.key).u32_at(dropout.offset.wrapping_add(row), j);
    if f64::from(word) >= (dropout.rate * 2_f64.powi(32)).round() {
        1.0 / (1.0 - dropout.rate)
    } else {
        0.0
    }
}

/// The index into an array whose axes of length 1 count for all.
fn broadcast(shape: [usize; 4], index: [usize; 4]) -> [usize; 4] {
    let mut index = index;
    for (index, length) in index.iter_mut().zip(shape) {
        if length == 1 {
            *index = 0;
        }
    }
    index
}

fn extras<'a>(q: &ArrayRef4<f64>, k: &ArrayRef4<f64>, mods: &ScoreMods<'a, f64>) -> Extras<'a> {
    let ((batch, n_heads, seq, _), kv_seq) = (q.dim(), k.dim().2);
    let shape = [batch, n_heads, seq, kv_seq];
    Extras {
        sinks: None,
        mods: *mods,
        distances: (mods.alibi).map(|(_, origin)| alibi_matrix(origin, seq, kv_seq)),
        factors: mods.dropout.map(|dropout| dropout_factors(dropout, shape)),
    }
}

/// Refuses what does not fit the scores `[batch, n_heads, seq, kv_seq]`.
pub(super) fn check(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    mods: &ScoreMods<'_, f64>,
) -> Result<(), AttentionError> {
    let (batch, n_heads, seq, _) = q.dim();
    let expected = [batch, n_heads, seq, k.dim().2];
    let shapes = [
        ("bias", mods.bias.map(|bias| bias.dim().into())),
        ("mask", mods.mask.map(|(mask, _)| mask.dim().into())),
    ];
    for (name, shape) in shapes {
        if let Some(got) = shape
            && !(0..4).all(|axis: usize| {
                let got: [usize; 4] = got;
                got[axis] == 1 || got[axis] == expected[axis]
            })
        {
            return Err(AttentionError::Broadcast {
                name,
                expected,
                got,
            });
        }
    }
    match mods.alibi {
        Some((slopes, _)) if slopes.len() != n_heads => {
            let got = slopes.len();
            return Err(AttentionError::Slopes { n_heads, got });
        }
        _ => {}
    }
    match mods.dropout {
        Some(dropout) if !(0.0..1.0).contains(&dropout.rate) => {
            Err(AttentionError::DropoutRate { got: dropout.rate })
        }
        _ => Ok(()),
    }
}
