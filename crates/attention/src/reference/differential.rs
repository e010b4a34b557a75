//! Differential attention with its matrices of weights written out.

use ndarray::{Array1, Array2, Array4, ArrayRef1, ArrayRef4, s};

use super::attention;
use crate::differential::{Gradients, lambda};
use crate::{AttentionConfig, AttentionError};

/// `(P1 - lambda P2) V` for each head, where `P = softmax(scale Q K^T + mask)`.
///
/// # Shapes
///
/// As [`differential::forward`](crate::differential::forward).
///
/// # Errors
///
/// As [`differential::forward`](crate::differential::forward), but tiles do not matter.
///
/// Source: Ye et al., arXiv:2410.05258v2, section 2.1.
pub fn forward(
    q: [&ArrayRef4<f64>; 2],
    k: [&ArrayRef4<f64>; 2],
    v: &ArrayRef4<f64>,
    lambda: &ArrayRef1<f64>,
    config: &AttentionConfig,
) -> Result<Array4<f64>, AttentionError> {
    let [first, second] = weights(q, k, v, lambda, config)?;
    let (batch, n_heads, seq, _) = q[0].dim();
    let group = n_heads / k[0].dim().1.max(1);
    let mut out = Array4::zeros((batch, n_heads, seq, v.dim().3));
    for b in 0..batch {
        for h in 0..n_heads {
            let head = s![b, h, .., ..];
            let p = &first.slice(head) - &(lambda[h] * &second.slice(head));
            let v = v.slice(s![b, h / group, .., ..]);
            out.slice_mut(head).assign(&p.dot(&v));
        }
    }
    Ok(out)
}

/// The gradients of [`forward`], by the chain rule on the matrices of weights.
///
/// ```text
/// dV = (P1 - lambda P2)^T dO
/// dP1 = dO V^T,   dP2 = -lambda dO V^T,   dlambda = -sum(P2 * dO V^T)
/// ```
///
/// and from `dP` on as in attention, whose values are the unit vectors.
///
/// # Shapes
///
/// As [`differential::backward`](crate::differential::backward).
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` has another shape.
pub fn backward(
    dout: &ArrayRef4<f64>,
    q: [&ArrayRef4<f64>; 2],
    k: [&ArrayRef4<f64>; 2],
    v: &ArrayRef4<f64>,
    lambda: &ArrayRef1<f64>,
    config: &AttentionConfig,
) -> Result<Gradients<f64>, AttentionError> {
    let [first, second] = weights(q, k, v, lambda, config)?;
    let (batch, n_heads, seq, _) = q[0].dim();
    attention::expect_shape("dout", [batch, n_heads, seq, v.dim().3], dout)?;
    let group = n_heads / k[0].dim().1.max(1);
    let mut dv = Array4::zeros(v.dim());
    let mut dlambda = Array1::zeros(n_heads);
    let mut dweights = [Array4::zeros(first.dim()), Array4::zeros(first.dim())];
    for b in 0..batch {
        for h in 0..n_heads {
            let head = s![b, h, .., ..];
            let p = &first.slice(head) - &(lambda[h] * &second.slice(head));
            let dout = dout.slice(head);
            let dp = dout.dot(&v.slice(s![b, h / group, .., ..]).t());
            let mut dv = dv.slice_mut(s![b, h / group, .., ..]);
            dv += &p.t().dot(&dout);
            dlambda[h] -= (&second.slice(head) * &dp).sum();
            dweights[1].slice_mut(head).assign(&(-lambda[h] * &dp));
            dweights[0].slice_mut(head).assign(&dp);
        }
    }
    let units = units(k[0]);
    let one = attention::backward(&dweights[0], q[0], k[0], &units, config)?;
    let two = attention::backward(&dweights[1], q[1], k[1], &units, config)?;
    Ok(Gradients {
        dq: [one.dq, two.dq],
        dk: [one.dk, two.dk],
        dv,
        dlambda,
    })
}

/// `lambda = exp(q1 . k1) - exp(q2 . k2) + lambda_init`.
///
/// # Errors
///
/// As [`lambda::forward`].
pub fn lambda(
    q: [&ArrayRef1<f64>; 2],
    k: [&ArrayRef1<f64>; 2],
    lambda_init: f64,
) -> Result<f64, AttentionError> {
    check_vectors(q, k)?;
    if !lambda_init.is_finite() {
        return Err(AttentionError::LambdaInit { got: lambda_init });
    }
    Ok(q[0].dot(k[0]).exp() - q[1].dot(k[1]).exp() + lambda_init)
}

/// The gradients of [`lambda()`], element by element.
///
/// # Errors
///
/// As [`lambda::backward`].
pub fn lambda_backward(
    dlambda: f64,
    q: [&ArrayRef1<f64>; 2],
    k: [&ArrayRef1<f64>; 2],
) -> Result<lambda::Gradients<f64>, AttentionError> {
    check_vectors(q, k)?;
    let slopes = [q[0].dot(k[0]).exp(), -q[1].dot(k[1]).exp()];
    Ok(lambda::Gradients {
        dq: [0, 1].map(|m| dlambda * slopes[m] * k[m]),
        dk: [0, 1].map(|m| dlambda * slopes[m] * q[m]),
    })
}

/// `(1 - lambda_init) x / sqrt(mean(x^2) + eps)`, row by row.
///
/// # Errors
///
/// As [`head_norm::forward`](crate::differential::head_norm::forward).
pub fn head_norm(
    x: &ArrayRef4<f64>,
    lambda_init: f64,
    eps: f64,
) -> Result<Array4<f64>, AttentionError> {
    check_numbers(lambda_init, eps)?;
    let mut y = x.to_owned();
    for mut row in y.rows_mut() {
        let mean = row.dot(&row) / row.len() as f64;
        row *= (1.0 - lambda_init) / (mean + eps).sqrt();
    }
    Ok(y)
}

/// The gradient of [`head_norm`], by the Jacobian of each row.
///
/// ```text
/// dy_i / dx_j = (1 - lambda_init) ([i = j] / r - x_i x_j / (n r^3)),   r = sqrt(mean(x^2) + eps)
/// ```
///
/// # Errors
///
/// As [`head_norm::backward`](crate::differential::head_norm::backward).
pub fn head_norm_backward(
    dout: &ArrayRef4<f64>,
    x: &ArrayRef4<f64>,
    lambda_init: f64,
    eps: f64,
) -> Result<Array4<f64>, AttentionError> {
    check_numbers(lambda_init, eps)?;
    attention::expect_shape("dout", x.dim().into(), dout)?;
    let mut dx = Array4::zeros(x.dim());
    for ((mut dx, dout), x) in dx.rows_mut().into_iter().zip(dout.rows()).zip(x.rows()) {
        let n = x.len();
        let r = (x.dot(&x) / n as f64 + eps).sqrt();
        let jacobian = Array2::from_shape_fn((n, n), |(i, j)| {
            let unit = if i == j { 1.0 / r } else { 0.0 };
            (1.0 - lambda_init) * (unit - x[i] * x[j] / (n as f64 * r.powi(3)))
        });
        dx.assign(&jacobian.t().dot(&dout));
    }
    Ok(dx)
}

/// `P1` and `P2`: `[batch, n_heads, seq, kv_seq]`. Attention to unit vectors shows its weights.
fn weights(
    q: [&ArrayRef4<f64>; 2],
    k: [&ArrayRef4<f64>; 2],
    v: &ArrayRef4<f64>,
    lambda: &ArrayRef1<f64>,
    config: &AttentionConfig,
) -> Result<[Array4<f64>; 2], AttentionError> {
    attention::expect_shape("q[1]", q[0].dim().into(), q[1])?;
    attention::expect_shape("k[1]", k[0].dim().into(), k[1])?;
    let (n_heads, got) = (q[0].dim().1, lambda.len());
    if n_heads != got {
        return Err(AttentionError::Lambda { n_heads, got });
    }
    let (batch, n_kv_heads, kv_seq, _) = k[0].dim();
    let units = units(k[0]);
    let first = attention::forward(q[0], k[0], &units, config)?.0;
    attention::expect_shape("v", [batch, n_kv_heads, kv_seq, v.dim().3], v)?;
    Ok([first, attention::forward(q[1], k[1], &units, config)?.0])
}

/// A unit vector for each key: `[batch, n_kv_heads, kv_seq, kv_seq]`.
fn units(k: &ArrayRef4<f64>) -> Array4<f64> {
    let (batch, n_kv_heads, kv_seq, _) = k.dim();
    Array4::from_shape_fn((batch, n_kv_heads, kv_seq, kv_seq), |(_, _, j, d)| {
        if j == d { 1.0 } else { 0.0 }
    })
}

fn check_vectors(q: [&ArrayRef1<f64>; 2], k: [&ArrayRef1<f64>; 2]) -> Result<(), AttentionError> {
    let got = [q[0].len(), k[0].len(), q[1].len(), k[1].len()];
    if got == [got[0]; 4] {
        Ok(())
    } else {
        Err(AttentionError::LambdaVectors { got })
    }
}

fn check_numbers(lambda_init: f64, eps: f64) -> Result<(), AttentionError> {
    if !lambda_init.is_finite() {
        return Err(AttentionError::LambdaInit { got: lambda_init });
    }
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(AttentionError::Eps { got: eps });
    }
    Ok(())
}
