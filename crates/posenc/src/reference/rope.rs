//! RoPE as the paper writes it: a sparse rotation matrix, filled in and multiplied.

use ndarray::{Array1, Array2, Array4, ArrayRef1, ArrayRef2, ArrayRef4, s};

use crate::PosencError;
use crate::rope::{RopeConfig, RopePairing};

pub mod axes;
pub mod permute;
pub mod scaling;

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

/// [`apply_cos_sin`] with every product and every sum rounded, as a library does whose tensors are all of one storage type.
///
/// ```text
/// y_i = round(Σ_j round(R_ij x_j))
/// ```
///
/// where a row of `R` has two entries. With the transpose for `R` (`is_backward`) it is the gradient.
///
/// # Shapes
///
/// As [`apply_cos_sin`].
///
/// # Errors
///
/// As [`apply`].
///
/// # Panics
///
/// If `sin` has fewer rows or columns than `cos`.
pub fn apply_rounded(
    x: &ArrayRef4<f64>,
    cos: &ArrayRef2<f64>,
    sin: &ArrayRef2<f64>,
    pairing: RopePairing,
    is_backward: bool,
    round: impl Fn(f64) -> f64,
) -> Result<Array4<f64>, PosencError> {
    check(x, cos.dim())?;
    let (batch, heads, seq, _) = x.dim();
    let rotary_dim = 2 * cos.ncols();
    let mut y = x.to_owned();
    for (b, h, t) in ndarray::indices((batch, heads, seq)) {
        let row = if cos.nrows() == seq { t } else { b * seq + t };
        let matrix = turn_matrix(&cos.row(row), &sin.row(row), pairing);
        for i in 0..rotary_dim {
            let products = (0..rotary_dim).map(|j| {
                let entry = matrix[if is_backward { [j, i] } else { [i, j] }];
                round(entry * x[[b, h, t, j]])
            });
            y[[b, h, t, i]] = round(products.sum());
        }
    }
    Ok(y)
}

/// Keys that have been rotated, turned on by one rotation matrix of the distance.
///
/// ```text
/// R_distance (R_position k) = R_(position + distance) k
/// ```
///
/// # Shapes
///
/// - `k`: `[batch, heads, seq, head_dim]`, as the pairing has written it
/// - `distances`: `[seq]`, or `[1]` for all, `inv_freq`: `[rotary_dim / 2]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::Distances`] if there is another number of distances.
/// - [`PosencError::RotaryDimAboveHeadDim`] if there are more planes than features for them.
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, equation 16, whose matrix is of a difference of positions too.
pub fn reposition(
    k: &ArrayRef4<f64>,
    distances: &ArrayRef1<i64>,
    inv_freq: &ArrayRef1<f64>,
    pairing: RopePairing,
) -> Result<Array4<f64>, PosencError> {
    let (seq, got) = (k.dim().2, distances.len());
    if got != 1 && got != seq {
        return Err(PosencError::Distances { seq, got });
    }
    let written = match pairing {
        RopePairing::Interleaved => RopePairing::Interleaved,
        RopePairing::HalfSplit | RopePairing::ReadInterleavedWriteHalfSplit => {
            RopePairing::HalfSplit
        }
    };
    multiply(k, (seq, inv_freq.len()), |t| {
        let distance = distances[if got == 1 { 0 } else { t }] as f64;
        rotation_matrix(&inv_freq.mapv(|w| distance * w), written)
    })
}

/// `ChatGLM-6B`: one matrix a token, of the positions in the first half of the head, of the block
/// positions in the second; each half has half-split planes and the frequencies of `head_dim / 2`.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`, `positions`, `block_positions`: `[batch, seq]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Panics
///
/// If the positions are of other shapes, or `head_dim` is not a multiple of four.
///
/// Source: `modeling_chatglm.py` of `THUDM/chatglm-6b`.
#[must_use]
pub fn apply_chatglm_v1(
    x: &ArrayRef4<f64>,
    positions: &ArrayRef2<usize>,
    block_positions: &ArrayRef2<usize>,
) -> Array4<f64> {
    let (batch, heads, seq, head_dim) = x.dim();
    let (half, quarter) = (head_dim / 2, head_dim / 4);
    let mut y = Array4::zeros(x.dim());
    for (b, h, t) in ndarray::indices((batch, heads, seq)) {
        let mut matrix = Array2::<f64>::zeros((head_dim, head_dim));
        for (start, position) in [(0, positions[[b, t]]), (half, block_positions[[b, t]])] {
            for i in 0..quarter {
                let exponent = 2.0 * i as f64 / half as f64;
                let angle = position as f64 / 10_000_f64.powf(exponent);
                let (first, second) = (start + i, start + quarter + i);
                matrix[[first, first]] = angle.cos();
                matrix[[first, second]] = -angle.sin();
                matrix[[second, first]] = angle.sin();
                matrix[[second, second]] = angle.cos();
            }
        }
        y.slice_mut(s![b, h, t, ..])
            .assign(&matrix.dot(&x.slice(s![b, h, t, ..])));
    }
    y
}

/// `1/n Σ_{j < n} |Σ_{i < j} exp(i' distance inv_freq_i)|`, each inner sum from its beginning.
///
/// # Shapes
///
/// - `inv_freq`: `[rotary_dim / 2]`, not empty
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, section 3.4.3, whose sums begin one later and end one later.
#[must_use]
pub fn decay(inv_freq: &ArrayRef1<f64>, distance: f64) -> f64 {
    let n_planes = inv_freq.len();
    let lengths = (0..n_planes).map(|j| {
        let angles = inv_freq.iter().take(j).map(|w| distance * w);
        let real: f64 = angles.clone().map(f64::cos).sum();
        let imaginary: f64 = angles.map(f64::sin).sum();
        (real * real + imaginary * imaginary).sqrt()
    });
    lengths.sum::<f64>() / n_planes as f64
}

fn check(x: &ArrayRef4<f64>, (got, n_planes): (usize, usize)) -> Result<(), PosencError> {
    let (batch, _, seq, head_dim) = x.dim();
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
    Ok(())
}

/// Multiplies each token with the matrix of its row.
fn multiply(
    x: &ArrayRef4<f64>,
    (rows, n_planes): (usize, usize),
    matrix: impl Fn(usize) -> Array2<f64>,
) -> Result<Array4<f64>, PosencError> {
    check(x, (rows, n_planes))?;
    let (batch, heads, seq, _) = x.dim();
    let rotary_dim = 2 * n_planes;
    let mut y = x.to_owned();
    for b in 0..batch {
        for t in 0..seq {
            let matrix = matrix(if rows == seq { t } else { b * seq + t });
            for h in 0..heads {
                let x = x.slice(s![b, h, t, ..rotary_dim]);
                y.slice_mut(s![b, h, t, ..rotary_dim])
                    .assign(&matrix.dot(&x));
            }
        }
    }
    Ok(y)
}
