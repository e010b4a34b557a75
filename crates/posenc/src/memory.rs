//! Arrays whose size a caller names: refused where there is no room, instead of an abort.

use ndarray::{Array2, LinalgScalar};

use crate::PosencError;

/// Refuses arrays that memory cannot hold: asked for and given back, since the constructors of arrays would abort.
pub(crate) fn check_size<T>(rows: usize, columns: usize) -> Result<(), PosencError> {
    rows.checked_mul(columns)
        .and_then(|len| Vec::<T>::new().try_reserve_exact(len).ok())
        .ok_or(PosencError::TooLarge { rows, columns })
}

/// Zeros of the shape `[rows, columns]`.
pub(crate) fn zeros<T: LinalgScalar>(
    rows: usize,
    columns: usize,
) -> Result<Array2<T>, PosencError> {
    check_size::<T>(rows, columns)?;
    // Pages of `vec!` are zeros that the threads which fill them fault in.
    Array2::from_shape_vec((rows, columns), vec![T::zero(); rows * columns])
        .map_err(|_| PosencError::TooLarge { rows, columns })
}
