//! From one pair layout to another by permutation matrices.

use ndarray::{Array2, Array4, ArrayRef2, ArrayRef4, s};

use crate::rope::RopePairing;

/// The matrix `P` with `x_to = P x_from` for the features that a rotation reads.
///
/// Feature and feature are the same if they stand at the same place of the same plane, or behind the planes. Nothing
/// is checked.
///
/// # Shapes
///
/// - returns: `[head_dim, head_dim]`, a single 1 in each row and column
///
/// # Panics
///
/// If `rotary_dim` is above `head_dim`.
#[must_use]
pub fn unrotated(
    head_dim: usize,
    rotary_dim: usize,
    from: RopePairing,
    to: RopePairing,
) -> Array2<f64> {
    matrix(head_dim, rotary_dim, |n_planes, plane| {
        [from, to].map(|pairing| match pairing {
            RopePairing::HalfSplit => [plane, n_planes + plane],
            RopePairing::Interleaved | RopePairing::ReadInterleavedWriteHalfSplit => {
                [2 * plane, 2 * plane + 1]
            }
        })
    })
}

/// [`unrotated`] for the features that a rotation writes.
///
/// # Shapes
///
/// - returns: `[head_dim, head_dim]`
///
/// # Panics
///
/// If `rotary_dim` is above `head_dim`.
#[must_use]
pub fn rotated(
    head_dim: usize,
    rotary_dim: usize,
    from: RopePairing,
    to: RopePairing,
) -> Array2<f64> {
    matrix(head_dim, rotary_dim, |n_planes, plane| {
        [from, to].map(|pairing| match pairing {
            RopePairing::Interleaved => [2 * plane, 2 * plane + 1],
            RopePairing::HalfSplit | RopePairing::ReadInterleavedWriteHalfSplit => {
                [plane, n_planes + plane]
            }
        })
    })
}

/// `P W` in each head, for finite weights; a bias is a weight of one column.
///
/// # Shapes
///
/// - `weight`: `[heads * head_dim, d_model]`, `permutation`: `[head_dim, head_dim]`
/// - returns: `[heads * head_dim, d_model]`
///
/// # Panics
///
/// If the rows are not whole heads.
#[must_use]
pub fn weight(weight: &ArrayRef2<f64>, permutation: &ArrayRef2<f64>) -> Array2<f64> {
    let head_dim = permutation.nrows();
    let mut permuted = Array2::zeros(weight.dim());
    for start in (0..weight.nrows()).step_by(head_dim) {
        let head = s![start..start + head_dim, ..];
        permuted
            .slice_mut(head)
            .assign(&permutation.dot(&weight.slice(head)));
    }
    permuted
}

/// `P x` for each token, for finite elements.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`, `permutation`: `[head_dim, head_dim]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Panics
///
/// If the permutation is of another `head_dim`.
#[must_use]
pub fn features(x: &ArrayRef4<f64>, permutation: &ArrayRef2<f64>) -> Array4<f64> {
    let (batch, heads, seq, _) = x.dim();
    let mut permuted = Array4::zeros(x.dim());
    for (b, h, t) in ndarray::indices((batch, heads, seq)) {
        let token = s![b, h, t, ..];
        permuted
            .slice_mut(token)
            .assign(&permutation.dot(&x.slice(token)));
    }
    permuted
}

/// The matrix from two lists of places for each plane.
fn matrix(
    head_dim: usize,
    rotary_dim: usize,
    places: impl Fn(usize, usize) -> [[usize; 2]; 2],
) -> Array2<f64> {
    let mut matrix = Array2::zeros((head_dim, head_dim));
    for plane in 0..rotary_dim / 2 {
        let [from, to] = places(rotary_dim / 2, plane);
        for place in 0..2 {
            matrix[[to[place], from[place]]] = 1.0;
        }
    }
    for feature in rotary_dim..head_dim {
        matrix[[feature, feature]] = 1.0;
    }
    matrix
}
