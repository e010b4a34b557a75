//! The matrix product as three loops.

use ndarray::{Array2, ArrayRef2};

/// `c_ij = sum_l a_il b_lj`, or `None` if the inner axes differ.
///
/// # Shapes
///
/// - `a`: `[m, k]`, `b`: `[k, n]`
/// - returns: `[m, n]`
#[must_use]
pub fn matmul(a: &ArrayRef2<f64>, b: &ArrayRef2<f64>) -> Option<Array2<f64>> {
    let (m, k) = a.dim();
    let n = b.ncols();
    if b.nrows() != k {
        return None;
    }
    let mut c = Array2::zeros((m, n));
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                c[[i, j]] += a[[i, l]] * b[[l, j]];
            }
        }
    }
    Some(c)
}
