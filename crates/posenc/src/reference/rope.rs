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
pub fn inv_freq(config: &RopeConfig) -> Array1<f64> {
    let d = config.rotary_dim as f64;
    (1..=config.rotary_dim / 2)
        .map(|i| 1.0 / (config.base.ln() * (2.0 * (i as f64 - 1.0) / d)).exp())
        .collect()
}

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
/// It is zero but for one 2 by 2 rotation a plane, which sits where the pairing says.
///
/// # Shapes
///
/// - `angles`: `[rotary_dim / 2]`
/// - returns: `[rotary_dim, rotary_dim]`
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, equation 15 (interleaved pairs).
#[must_use]
pub fn rotation_matrix(angles: &ArrayRef1<f64>, pairing: RopePairing) -> Array2<f64> {
    let n_planes = angles.len();
    let mut matrix = Array2::zeros((2 * n_planes, 2 * n_planes));
    for (i, angle) in angles.iter().enumerate() {
        let (a, b) = match pairing {
            RopePairing::Interleaved => (2 * i, 2 * i + 1),
            RopePairing::HalfSplit => (i, i + n_planes),
        };
        matrix[[a, a]] = angle.cos();
        matrix[[a, b]] = -angle.sin();
        matrix[[b, a]] = angle.sin();
        matrix[[b, b]] = angle.cos();
    }
    matrix
}

/// `y = attention_factor R x` for every token; features beyond the matrix pass through.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`, `angles`: `[seq, rotary_dim / 2]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::TableSeq`] if there is not one row of angles per sequence element.
/// - [`PosencError::RotaryDimAboveHeadDim`] if there are more planes than features for them.
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, equation 14.
pub fn apply(
    x: &ArrayRef4<f64>,
    angles: &ArrayRef2<f64>,
    pairing: RopePairing,
    attention_factor: f64,
) -> Result<Array4<f64>, PosencError> {
    multiply(x, angles, |angles| {
        rotation_matrix(angles, pairing) * attention_factor
    })
}

/// `dx = attention_factor R^T dy` for every token: the gradient of [`apply`].
///
/// # Shapes
///
/// - `dout`: `[batch, heads, seq, head_dim]`, `angles`: `[seq, rotary_dim / 2]`
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
    multiply(dout, angles, |angles| {
        rotation_matrix(angles, pairing).reversed_axes() * attention_factor
    })
}

fn multiply(
    x: &ArrayRef4<f64>,
    angles: &ArrayRef2<f64>,
    matrix: impl Fn(&ArrayRef1<f64>) -> Array2<f64>,
) -> Result<Array4<f64>, PosencError> {
    let (batch, heads, seq, head_dim) = x.dim();
    if angles.nrows() != seq {
        return Err(PosencError::TableSeq {
            expected: seq,
            got: angles.nrows(),
        });
    }
    let rotary_dim = 2 * angles.ncols();
    if rotary_dim > head_dim {
        return Err(PosencError::RotaryDimAboveHeadDim {
            rotary_dim,
            head_dim,
        });
    }
    let mut y = x.to_owned();
    for (t, angles) in angles.outer_iter().enumerate() {
        let matrix = matrix(&angles);
        for b in 0..batch {
            for h in 0..heads {
                let x = x.slice(s![b, h, t, ..rotary_dim]);
                y.slice_mut(s![b, h, t, ..rotary_dim])
                    .assign(&matrix.dot(&x));
            }
        }
    }
    Ok(y)
}
