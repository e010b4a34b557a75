//! Arrays whose size a caller names: refused where there is no room, instead of an abort.

use ndarray::{Array2, LinalgScalar};

use crate::PosencError;

/// Zeros of the shape `[rows, columns]`.
pub(crate) fn zeros<T: LinalgScalar>(
    rows: usize,
    columns: usize,
) -> Result<Array2<T>, PosencError> {
    let too_large = || PosencError::TooLarge { rows, columns };
    let len = rows.checked_mul(columns).ok_or_else(too_large)?;
    // Asked for and given back: `vec!` would abort, but its pages are zeros that the threads which fill them fault in.
    Vec::<T>::new()
        .try_reserve_exact(len)
        .map_err(|_| too_large())?;
    Array2::from_shape_vec((rows, columns), vec![T::zero(); len]).map_err(|_| too_large())
}
