//! SwiGLU token by token, in loops.

use ndarray::{Array2, ArrayRef1, ArrayRef2};

use super::silu::silu;
use crate::glu::GluPacking;

/// `silu(gate) * up`, or `None` if `x` has an odd number of columns.
///
/// # Shapes
///
/// - `x`: `[tokens, 2 * d_ff]`
/// - returns: `[tokens, d_ff]`
#[must_use]
pub fn apply(x: &ArrayRef2<f64>, packing: GluPacking) -> Option<Array2<f64>> {
    let (tokens, width) = x.dim();
    if width % 2 == 1 {
        return None;
    }
    let d_ff = width / 2;
    Some(Array2::from_shape_fn((tokens, d_ff), |(t, j)| {
        let (gate, up) = match packing {
            GluPacking::GateUp => (j, d_ff + j),
            GluPacking::UpGate => (d_ff + j, j),
            GluPacking::Interleaved => (2 * j, 2 * j + 1),
        };
        silu(x[[t, gate]]) * x[[t, up]]
    }))
}

/// Biases of the three matrices, in the order gate, up, down.
pub type Biases<'a> = [Option<&'a ArrayRef1<f64>>; 3];

/// `y = W_down (silu(W_gate x + b_gate) * (W_up x + b_up)) + b_down` (arXiv:2002.05202v1, Eq. 6).
///
/// `None` if the shapes do not fit.
///
/// # Shapes
///
/// - `x`: `[tokens, d_model]`, `gate`, `up`: `[d_ff, d_model]`, `down`: `[d_model, d_ff]`
/// - returns: `[tokens, d_model]`
#[must_use]
pub fn forward(
    x: &ArrayRef2<f64>,
    gate: &ArrayRef2<f64>,
    up: &ArrayRef2<f64>,
    down: &ArrayRef2<f64>,
    biases: Biases<'_>,
) -> Option<Array2<f64>> {
    let (tokens, d_model) = x.dim();
    let d_ff = gate.nrows();
    let fits = gate.ncols() == d_model && up.dim() == gate.dim() && down.dim() == (d_model, d_ff);
    let lengths = [d_ff, d_ff, d_model];
    let biases_fit = biases
        .iter()
        .zip(lengths)
        .all(|(b, n)| b.is_none_or(|b| b.len() == n));
    if !fits || !biases_fit {
        return None;
    }
    let bias = |which: usize, i: usize| biases[which].map_or(0.0, |b| b[i]);
    let mut y = Array2::zeros((tokens, d_model));
    for t in 0..tokens {
        for i in 0..d_model {
            y[[t, i]] = bias(2, i);
        }
        for j in 0..d_ff {
            let mut g = bias(0, j);
            let mut u = bias(1, j);
            for i in 0..d_model {
                g += gate[[j, i]] * x[[t, i]];
                u += up[[j, i]] * x[[t, i]];
            }
            for i in 0..d_model {
                y[[t, i]] += down[[i, j]] * silu(g) * u;
            }
        }
    }
    Some(y)
}
