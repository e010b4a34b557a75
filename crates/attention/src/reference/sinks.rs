//! Attention with sinks as a textbook writes it: one more column of scores, dropped after the softmax.

use ndarray::{Array1, Array3, Array4, ArrayRef1, ArrayRef4};

use super::attention::{Extras, attend, gradients, mask_matrix};
use crate::{AttentionConfig, AttentionError, Gradients};

/// `softmax([scale Q K^T + mask, sink]) [V; 0]` for each head, and the log-sum-exp of its rows.
///
/// # Shapes
///
/// As [`reference::attention::forward`](super::attention::forward); `sinks`: `[n_heads]`, of finite
/// numbers.
///
/// # Errors
///
/// As [`reference::attention::forward`](super::attention::forward); also
/// [`AttentionError::Sinks`] if there are not as many sinks as heads.
///
/// Source: gpt-oss, arXiv:2508.10925v1, section 2.
pub fn forward(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    sinks: &ArrayRef1<f64>,
    config: &AttentionConfig,
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    let sees = |seq, kv_seq| mask_matrix(config.mask, seq, kv_seq);
    attend([q, k, v], config, sees, &with(sinks))
}

/// The gradients of [`forward`] for queries, keys, values, and for the sinks.
///
/// As those of [`reference::attention::backward`](super::attention::backward), where the sink has
/// the weight that the keys leave, and `dP = 0`:
///
/// ```text
/// dsink = - sum (1 - rowsum(P)) rowsum(P * dP)
/// ```
///
/// # Shapes
///
/// - `dout`: `[batch, n_heads, seq, value_dim]`
/// - returns: `dq`, `dk`, `dv`, shaped as `q`, `k`, `v`, and `[n_heads]`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` has another shape.
pub fn backward(
    dout: &ArrayRef4<f64>,
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    sinks: &ArrayRef1<f64>,
    config: &AttentionConfig,
) -> Result<(Gradients<f64>, Array1<f64>), AttentionError> {
    let sees = |seq, kv_seq| mask_matrix(config.mask, seq, kv_seq);
    let all = gradients(dout, [q, k, v], config, sees, &with(sinks))?;
    Ok((all.inputs, all.dsinks))
}

fn with(sinks: &ArrayRef1<f64>) -> Extras<'_> {
    Extras {
        sinks: Some(sinks),
        ..Extras::default()
    }
}
