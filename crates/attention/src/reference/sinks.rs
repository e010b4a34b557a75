//! Attention with sinks as a textbook writes it: one more column of scores, dropped after the softmax.

use ndarray::{Array1, Array2, Array3, Array4, ArrayRef1, ArrayRef4, ArrayView2, Axis, s};

use super::attention::{check, mask_matrix, scores, softmax};
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
/// Source: gpt-oss, arXiv:2508.10925v1, section 2.2.
pub fn forward(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    sinks: &ArrayRef1<f64>,
    config: &AttentionConfig,
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    let (group, scale) = check(q, k, v, config)?;
    let (batch, n_heads, seq, _) = q.dim();
    check_sinks(n_heads, sinks)?;
    let mut out = Array4::zeros((batch, n_heads, seq, v.dim().3));
    let mut lse = Array3::zeros((batch, n_heads, seq));
    let sees = mask_matrix(config.mask, seq, k.dim().2);
    for b in 0..batch {
        for h in 0..n_heads {
            let q = q.slice(s![b, h, .., ..]);
            let k = k.slice(s![b, h / group, .., ..]);
            let v = v.slice(s![b, h / group, .., ..]);
            let (p, row_lse) = softmax(with_sink(
                scores(&q, &k, scale, config.softcap, &sees),
                sinks[h],
            ));
            let p = p.slice(s![.., ..-1]);
            out.slice_mut(s![b, h, .., ..]).assign(&p.dot(&v));
            lse.slice_mut(s![b, h, ..]).assign(&row_lse.column(0));
        }
    }
    Ok((out, lse))
}

/// The gradients of [`forward`] for queries, keys, values, and for the sinks.
///
/// As those of [`reference::attention::backward`](super::attention::backward), where the column
/// of the sink has `dP = 0`:
///
/// ```text
/// dsink = colsum(dS)
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
    let (group, scale) = check(q, k, v, config)?;
    let (batch, n_heads, seq, _) = q.dim();
    check_sinks(n_heads, sinks)?;
    super::attention::expect_shape("dout", [batch, n_heads, seq, v.dim().3], dout)?;
    let mut gradients = Gradients {
        dq: Array4::zeros(q.dim()),
        dk: Array4::zeros(k.dim()),
        dv: Array4::zeros(v.dim()),
    };
    let mut dsinks = Array1::zeros(n_heads);
    let sees = mask_matrix(config.mask, seq, k.dim().2);
    for b in 0..batch {
        for h in 0..n_heads {
            let q = q.slice(s![b, h, .., ..]);
            let k = k.slice(s![b, h / group, .., ..]);
            let v = v.slice(s![b, h / group, .., ..]);
            let dout = dout.slice(s![b, h, .., ..]);
            let bent = scores(&q, &k, scale, config.softcap, &sees);
            let slope = bent.mapv(|s| match config.softcap {
                Some(cap) if s.is_finite() => 1.0 - (s / cap).powi(2),
                _ => 1.0,
            });
            let (p, _) = softmax(with_sink(bent, sinks[h]));
            let dp = with_sink(dout.dot(&v.t()), 0.0);
            let inner = (&p * &dp).sum_axis(Axis(1)).insert_axis(Axis(1));
            let ds = &p * (&dp - &inner);
            dsinks[h] += ds.column(ds.ncols() - 1).sum();
            let p: ArrayView2<'_, f64> = p.slice(s![.., ..-1]);
            let ds = scale * &ds.slice(s![.., ..-1]) * slope;
            let mut dq = gradients.dq.slice_mut(s![b, h, .., ..]);
            dq += &ds.dot(&k);
            let mut dk = gradients.dk.slice_mut(s![b, h / group, .., ..]);
            dk += &ds.t().dot(&q);
            let mut dv = gradients.dv.slice_mut(s![b, h / group, .., ..]);
            dv += &p.t().dot(&dout);
        }
    }
    Ok((gradients, dsinks))
}

/// One more column, the same number in each row.
fn with_sink(matrix: Array2<f64>, sink: f64) -> Array2<f64> {
    let (rows, columns) = matrix.dim();
    let mut wider = Array2::from_elem((rows, columns + 1), sink);
    wider.slice_mut(s![.., ..columns]).assign(&matrix);
    wider
}

fn check_sinks(n_heads: usize, sinks: &ArrayRef1<f64>) -> Result<(), AttentionError> {
    let got = sinks.len();
    if got == n_heads {
        return Ok(());
    }
    Err(AttentionError::Sinks { n_heads, got })
}
