//! Learned positions as a matrix product: a one-hot row for each token times the table.

use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3};

use crate::PosencError;
use crate::learned::PositionConvention;

/// The position of each token, each counted from the start of its row.
///
/// The arguments are taken as they are; nothing is checked.
///
/// # Shapes
///
/// - `mask`: `[batch, kv_seq]`, true where a token stands
/// - returns: `[batch, kv_seq - past]`
///
/// Source: transformers 5.23, as [`learned::positions`](crate::learned::positions).
#[must_use]
pub fn positions(
    mask: &ArrayRef2<bool>,
    past: usize,
    convention: PositionConvention,
) -> Array2<usize> {
    let (batch, kv_seq) = mask.dim();
    Array2::from_shape_fn((batch, kv_seq.saturating_sub(past)), |(b, t)| {
        let t = past + t;
        // cumsum(mask)[t], and the same from `first` on
        let cumsum = |first: usize| {
            (first..=t)
                .map(|s| usize::from(mask[[b, s]]))
                .sum::<usize>()
        };
        let here = usize::from(mask[[b, t]]);
        match convention {
            PositionConvention::Index { offset } => offset + t,
            PositionConvention::TokenCount => (cumsum(0) * here).max(1) - 1,
            PositionConvention::Opt { offset } => cumsum(0) * here + offset - 1,
            PositionConvention::Roberta { padding_idx } => {
                (past + cumsum(past)) * here + padding_idx
            }
        }
    })
}

/// The matrix whose row for a token is 1 at its position and 0 elsewhere; tokens of all sequences one below the other.
///
/// # Shapes
///
/// - `positions`: `[batch, seq]`
/// - returns: `[batch * seq, n_positions]`
///
/// # Errors
///
/// - [`PosencError::PositionOutsideTable`] if a position is not below `n_positions`.
// ANCHOR: one_hot
pub fn one_hot(
    positions: &ArrayRef2<usize>,
    n_positions: usize,
) -> Result<Array2<f64>, PosencError> {
    let mut matrix = Array2::zeros((positions.len(), n_positions));
    for (token, ((b, t), &got)) in positions.indexed_iter().enumerate() {
        if got >= n_positions {
            let index = [b, t];
            return Err(PosencError::PositionOutsideTable {
                index,
                got,
                n_positions,
            });
        }
        matrix[[token, got]] = 1.0;
    }
    Ok(matrix)
}
// ANCHOR_END: one_hot

/// `one_hot(positions) table`, for finite tables.
///
/// # Shapes
///
/// - `table`: `[n_positions, d_model]`, `positions`: `[batch, seq]`
/// - returns: `[batch, seq, d_model]`
///
/// # Errors
///
/// As [`one_hot`].
// ANCHOR: embed
pub fn embed(
    table: &ArrayRef2<f64>,
    positions: &ArrayRef2<usize>,
) -> Result<Array3<f64>, PosencError> {
    let (batch, seq) = positions.dim();
    let rows = one_hot(positions, table.nrows())?.dot(table);
    Ok(Array3::from_shape_fn(
        (batch, seq, table.ncols()),
        |(b, t, j)| rows[[b * seq + t, j]],
    ))
}
// ANCHOR_END: embed

/// `one_hot(positions)ᵀ dout`: the gradient of [`embed`] for the table.
///
/// # Shapes
///
/// - `dout`: `[batch, seq, d_model]`, `positions`: `[batch, seq]`
/// - returns: `[n_positions, d_model]`
///
/// # Errors
///
/// - [`PosencError::PositionsShape`] if there is not one position for each token.
/// - As [`one_hot`].
pub fn backward(
    dout: &ArrayRef3<f64>,
    positions: &ArrayRef2<usize>,
    n_positions: usize,
) -> Result<Array2<f64>, PosencError> {
    let (batch, seq, d_model) = dout.dim();
    if positions.dim() != (batch, seq) {
        return Err(PosencError::PositionsShape {
            expected: [batch, seq],
            got: positions.dim().into(),
        });
    }
    let dout = Array2::from_shape_fn((batch * seq, d_model), |(token, j)| {
        dout[[token / seq, token % seq, j]]
    });
    Ok(one_hot(positions, n_positions)?.t().dot(&dout))
}
