//! RMSNorm and its gradient as in a textbook.

use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2};

/// `y_i = w_i x_i / sqrt(mean_j x_j^2 + eps)` (arXiv:1910.07467v1, Eq. 4), or `None` if the shapes do not fit.
///
/// # Shapes
///
/// - `x`: `[tokens, d_model]`, `weight`: `[d_model]`
/// - returns: `[tokens, d_model]`
#[must_use]
pub fn forward(x: &ArrayRef2<f64>, weight: &ArrayRef1<f64>, eps: f64) -> Option<Array2<f64>> {
    if weight.len() != x.ncols() {
        return None;
    }
    Some(Array2::from_shape_fn(x.dim(), |(t, i)| {
        weight[i] * x[[t, i]] / root_mean_square(x, t, eps)
    }))
}

/// The gradients `dx` and `dweight`, through the full Jacobian of each token.
///
/// ```text
/// r = sqrt(mean_j x_j^2 + eps)
/// d y_i / d x_j = w_i (delta_ij / r - x_i x_j / (n r^3)),   d y_i / d w_i = x_i / r
/// ```
///
/// `None` if the shapes do not fit.
///
/// # Shapes
///
/// - `dout`, `x`: `[tokens, d_model]`, `weight`: `[d_model]`
/// - returns: `[tokens, d_model]` and `[d_model]`
#[must_use]
pub fn backward(
    dout: &ArrayRef2<f64>,
    x: &ArrayRef2<f64>,
    weight: &ArrayRef1<f64>,
    eps: f64,
) -> Option<(Array2<f64>, Array1<f64>)> {
    let (tokens, n) = x.dim();
    if weight.len() != n || dout.dim() != x.dim() {
        return None;
    }
    let mut dx = Array2::zeros((tokens, n));
    let mut dweight = Array1::zeros(n);
    for t in 0..tokens {
        let r = root_mean_square(x, t, eps);
        for i in 0..n {
            dweight[i] += dout[[t, i]] * x[[t, i]] / r;
            for j in 0..n {
                let delta = if i == j { 1.0 } else { 0.0 };
                let slope = delta / r - x[[t, i]] * x[[t, j]] / (n as f64 * r * r * r);
                dx[[t, j]] += dout[[t, i]] * weight[i] * slope;
            }
        }
    }
    Some((dx, dweight))
}

fn root_mean_square(x: &ArrayRef2<f64>, token: usize, eps: f64) -> f64 {
    let squares: f64 = x.row(token).iter().map(|x| x * x).sum();
    (squares / x.ncols() as f64 + eps).sqrt()
}
