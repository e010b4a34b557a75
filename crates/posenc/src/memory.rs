//! Arrays whose size a caller names: refused where there is no room, instead of an abort.
//!
//! So are arguments that only repeat one element that often: to walk through them would take years.

use ndarray::{Array2, LinalgScalar};

use crate::PosencError;
use llm_numerics::memory::has_room;

/// Refuses arrays that memory cannot hold, since the constructors of arrays would abort.
pub(crate) fn check_size<T>(rows: usize, columns: usize) -> Result<(), PosencError> {
    rows.checked_mul(columns)
        .filter(|&len| has_room::<T>(len))
        .map(drop)
        .ok_or(PosencError::TooLarge { rows, columns })
}

/// The list of some values, or nothing where there is no room for it.
pub(crate) fn list<T>(values: impl ExactSizeIterator<Item = T>) -> Option<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(values.len()).ok()?;
    list.extend(values);
    Some(list)
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
