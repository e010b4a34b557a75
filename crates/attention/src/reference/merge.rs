//! Partial attentions merged as the definition has it, one element after the other.

use ndarray::{Array3, Array4, ArrayRef3, ArrayRef4};

use crate::AttentionError;
use crate::merge::Gradients;

/// `lse = ln sum_p e^(lse_p)` and `out = sum_p e^(lse_p) out_p / sum_p e^(lse_p)`.
///
/// # Shapes
///
/// - `outs`: one `[batch, n_heads, seq, value_dim]` for each piece
/// - `lses`: one `[batch, n_heads, seq]` for each piece
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// A piece with the `lse` `-inf` is no term of the sums; without terms the results are
/// zero and `-inf`.
///
/// # Errors
///
/// As [`merge::forward`](crate::merge::forward).
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, section 2.3.1.
pub fn forward(
    outs: &[&ArrayRef4<f64>],
    lses: &[&ArrayRef3<f64>],
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    check(outs, lses)?;
    let out = Array4::from_shape_fn(outs[0].dim(), |(b, h, i, d)| {
        let terms = weights(lses, [b, h, i]).into_iter();
        terms.map(|(p, w)| w * outs[p][[b, h, i, d]]).sum()
    });
    let lse = Array3::from_shape_fn(lses[0].dim(), |row| {
        let max = largest(lses, row.into());
        if max == f64::NEG_INFINITY {
            return max;
        }
        let terms = lses.iter().map(|lse| (lse[row] - max).exp());
        max + terms.sum::<f64>().ln()
    });
    Ok((out, lse))
}

/// The gradients of [`forward`], by the Jacobian of the softmax over the pieces.
///
/// ```text
/// dout_p = w_p dout,   g_p = <dout, out_p>
/// dlse_p = w_p (g_p - sum_r w_r g_r) + w_p dlse
/// ```
///
/// # Shapes
///
/// - `dout`: `[batch, n_heads, seq, value_dim]`
/// - `dlse`: `[batch, n_heads, seq]`
/// - returns: arrays shaped as `outs` and as `lses`
///
/// # Errors
///
/// As [`merge::backward`](crate::merge::backward).
pub fn backward(
    dout: &ArrayRef4<f64>,
    dlse: Option<&ArrayRef3<f64>>,
    outs: &[&ArrayRef4<f64>],
    lses: &[&ArrayRef3<f64>],
) -> Result<Gradients<f64>, AttentionError> {
    check(outs, lses)?;
    if dout.dim() != outs[0].dim() {
        return Err(AttentionError::Shape {
            name: "dout",
            expected: outs[0].dim().into(),
            got: dout.dim().into(),
        });
    }
    if let Some(dlse) = dlse.filter(|dlse| dlse.dim() != lses[0].dim()) {
        return Err(AttentionError::DlseShape {
            expected: lses[0].dim().into(),
            got: dlse.dim().into(),
        });
    }
    let mut douts = vec![Array4::zeros(outs[0].dim()); outs.len()];
    let mut dlses = vec![Array3::zeros(lses[0].dim()); outs.len()];
    let (batch, n_heads, seq, value_dim) = dout.dim();
    for b in 0..batch {
        for h in 0..n_heads {
            for i in 0..seq {
                let weights = weights(lses, [b, h, i]);
                let mut inner = vec![0.0; outs.len()];
                let mut mean = 0.0;
                for &(p, w) in &weights {
                    for d in 0..value_dim {
                        inner[p] += dout[[b, h, i, d]] * outs[p][[b, h, i, d]];
                        douts[p][[b, h, i, d]] = w * dout[[b, h, i, d]];
                    }
                    mean += w * inner[p];
                }
                let dlse = dlse.map_or(0.0, |dlse| dlse[[b, h, i]]);
                for &(p, w) in &weights {
                    dlses[p][[b, h, i]] = w * (inner[p] - mean) + w * dlse;
                }
            }
        }
    }
    Ok(Gradients { douts, dlses })
}

/// The pieces that saw a key, and what each counts.
fn weights(lses: &[&ArrayRef3<f64>], row: [usize; 3]) -> Vec<(usize, f64)> {
    let max = largest(lses, row);
    let total: f64 = lses.iter().map(|lse| (lse[row] - max).exp()).sum();
    let seen = lses.iter().enumerate();
    seen.filter(|(_, lse)| lse[row] != f64::NEG_INFINITY)
        .map(|(p, lse)| (p, (lse[row] - max).exp() / total))
        .collect()
}

/// The largest log-sum-exp of a row; NaN if there is one.
fn largest(lses: &[&ArrayRef3<f64>], row: [usize; 3]) -> f64 {
    lses.iter().fold(f64::NEG_INFINITY, |max, lse| {
        let x = lse[row];
        if x > max || x.is_nan() { x } else { max }
    })
}

fn check(outs: &[&ArrayRef4<f64>], lses: &[&ArrayRef3<f64>]) -> Result<(), AttentionError> {
    if outs.len() != lses.len() {
        let (outs, lses) = (outs.len(), lses.len());
        return Err(AttentionError::Pieces { outs, lses });
    }
    if outs.is_empty() {
        return Err(AttentionError::NoPieces);
    }
    let (batch, n_heads, seq, value_dim) = outs[0].dim();
    for piece in 0..outs.len() {
        if outs[piece].dim() != outs[0].dim() {
            return Err(AttentionError::PieceShape {
                piece,
                expected: [batch, n_heads, seq, value_dim],
                got: outs[piece].dim().into(),
            });
        }
        if lses[piece].dim() != (batch, n_heads, seq) {
            return Err(AttentionError::PieceLseShape {
                piece,
                expected: [batch, n_heads, seq],
                got: lses[piece].dim().into(),
            });
        }
    }
    Ok(())
}
