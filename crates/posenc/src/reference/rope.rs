//! RoPE as the paper writes it: a sparse rotation matrix, filled in and multiplied.

use ndarray::{Array1, Array2, Array4, ArrayRef1, ArrayRef2, ArrayRef4, s};

use crate::PosencError;
use crate::rope::{RopeConfig, RopePairing};

/// The frequencies `theta_i = base^(-2 (i - 1) / d)` of RoFormer, with `d = rotary_dim`.
///
/// The config is taken as it is; nothing is checked.
///
/// # Shapes
///
/// - returns: `[rotary_dim / 2]`
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, equation 15.
#[must_use]
// ANCHOR: inv_freq
pub fn inv_freq(config: &RopeConfig) -> Array1<f64> {
    let d = config.rotary_dim as f64;
    (1..=config.rotary_dim / 2)
        .map(|i| 1.0 / (config.base.ln() * (2.0 * (i as f64 - 1.0) / d)).exp())
        .collect()
}
// ANCHOR_END: inv_freq

/// The angle of each position and plane, in radians: `m theta_i`.
///
/// # Shapes
///
/// - `positions`: `[seq]`, `inv_freq`: `[rotary_dim / 2]`
/// - returns: `[seq, rotary_dim / 2]`
#[must_use]
pub fn angles(positions: &ArrayRef1<usize>, inv_freq: &ArrayRef1<f64>) -> Array2<f64> {
    Array2::from_shape_fn((positions.len(), inv_freq.len()), |(t, i)| {
        positions[t] as f64 * inv_freq[i]
    })
}

/// The rotation matrix `R` of one token.
///
/// It is zero but for two rows a plane: those of the features that the pairing writes, with
/// cosines and sines in the columns of the features that it reads.
///
/// # Shapes
///
/// - `angles`: `[rotary_dim / 2]`
/// - returns: `[rotary_dim, rotary_dim]`
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, equation 15 (interleaved pairs).
#[must_use]
pub fn rotation_matrix(angles: &ArrayRef1<f64>, pairing: RopePairing) -> Array2<f64> {
    turn_matrix(&angles.mapv(f64::cos), &angles.mapv(f64::sin), pairing)
}

/// [`rotation_matrix`] from cosines and sines, which may carry a factor or be rounded.
///
/// # Shapes
///
/// - `cos`, `sin`: `[rotary_dim / 2]`
/// - returns: `[rotary_dim, rotary_dim]`
///
/// # Panics
///
/// If `sin` is shorter than `cos`.
#[must_use]
// ANCHOR: matrix
pub fn turn_matrix(
    cos: &ArrayRef1<f64>,
    sin: &ArrayRef1<f64>,
    pairing: RopePairing,
) -> Array2<f64> {
    let n_planes = cos.len();
    let mut matrix = Array2::zeros((2 * n_planes, 2 * n_planes));
    for i in 0..n_planes {
        let (neighbors, halves) = ([2 * i, 2 * i + 1], [i, i + n_planes]);
        let ([read1, read2], [write1, write2]) = match pairing {
            RopePairing::Interleaved => (neighbors, neighbors),
            RopePairing::HalfSplit => (halves, halves),
            RopePairing::ReadInterleavedWriteHalfSplit => (neighbors, halves),
        };
        matrix[[write1, read1]] = cos[i];
        matrix[[write1, read2]] = -sin[i];
        matrix[[write2, read1]] = sin[i];
        matrix[[write2, read2]] = cos[i];
    }
    matrix
}
// ANCHOR_END: matrix

/// `y = attention_factor R x` for every token; features beyond the matrix pass through.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - `angles`: `[seq, rotary_dim / 2]`, or `[batch * seq, rotary_dim / 2]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::TableRows`] if there is another number of rows of angles.
/// - [`PosencError::RotaryDimAboveHeadDim`] if there are more planes than features for them.
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, equation 14.
pub fn apply(
    x: &ArrayRef4<f64>,
    angles: &ArrayRef2<f64>,
    pairing: RopePairing,
    attention_factor: f64,
) -> Result<Array4<f64>, PosencError> {
    multiply(x, angles.dim(), |row| {
        rotation_matrix(&angles.row(row), pairing) * attention_factor
    })
}

/// `dx = attention_factor R^T dy` for every token: the gradient of [`apply`].
///
/// # Shapes
///
/// - `dout`: `[batch, heads, seq, head_dim]`
/// - `angles`: `[seq, rotary_dim / 2]`, or `[batch * seq, rotary_dim / 2]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// As [`apply`].
pub fn backward(
    dout: &ArrayRef4<f64>,
    angles: &ArrayRef2<f64>,
    pairing: RopePairing,
    attention_factor: f64,
) -> Result<Array4<f64>, PosencError> {
    multiply(dout, angles.dim(), |row| {
        rotation_matrix(&angles.row(row), pairing).reversed_axes() * attention_factor
    })
}

/// [`apply`] with cosines and sines that the caller has, say rounded ones.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - `cos`, `sin`: `[seq, rotary_dim / 2]`, or `[batch * seq, rotary_dim / 2]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// As [`apply`].
///
/// # Panics
///
/// If `sin` has fewer rows or columns than `cos`.
pub fn apply_cos_sin(
    x: &ArrayRef4<f64>,
    cos: &ArrayRef2<f64>,
    sin: &ArrayRef2<f64>,
    pairing: RopePairing,
) -> Result<Array4<f64>, PosencError> {
    multiply(x, cos.dim(), |row| {
        turn_matrix(&cos.row(row), &sin.row(row), pairing)
    })
}

/// The gradient of [`apply_cos_sin`].
///
/// # Shapes
///
/// As [`apply_cos_sin`], with `dout` for `x`.
///
/// # Errors
///
/// As [`apply`].
///
/// # Panics
///
/// If `sin` has fewer rows or columns than `cos`.
pub fn backward_cos_sin(
    dout: &ArrayRef4<f64>,
    cos: &ArrayRef2<f64>,
    sin: &ArrayRef2<f64>,
    pairing: RopePairing,
) -> Result<Array4<f64>, PosencError> {
    multiply(dout, cos.dim(), |row| {
        turn_matrix(&cos.row(row), &sin.row(row), pairing).reversed_axes()
    })
}

/// Multiplies each token with the matrix of its row.
fn multiply(
    x: &ArrayRef4<f64>,
    (got, n_planes): (usize, usize),
    matrix: impl Fn(usize) -> Array2<f64>,
) -> Result<Array4<f64>, PosencError> {
    let (batch, heads, seq, head_dim) = x.dim();
    if got != seq && Some(got) != batch.checked_mul(seq) {
        return Err(PosencError::TableRows { seq, batch, got });
    }
    let rotary_dim = 2 * n_planes;
    if rotary_dim > head_dim {
        return Err(PosencError::RotaryDimAboveHeadDim {
            rotary_dim,
            head_dim,
        });
    }
    let mut y = x.to_owned();
    for b in 0..batch {
        for t in 0..seq {
            let matrix = matrix(if got == seq { t } else { b * seq + t });
            for h in 0..heads {
                let x = x.slice(s![b, h, t, ..rotary_dim]);
                y.slice_mut(s![b, h, t, ..rotary_dim])
                    .assign(&matrix.dot(&x));
            }
        }
    }
    Ok(y)
}
