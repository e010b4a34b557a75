//! Arrays whose size a caller names: refused where there is no room, instead of an abort.
//!
//! So are arguments that only repeat one element that often: to walk through them would take years.

use std::hint::black_box;

use ndarray::{Array2, LinalgScalar};

use crate::PosencError;

/// Refuses arrays that memory cannot hold: asked for and given back, since the constructors of arrays would abort.
///
/// Elements without a size count as one byte each, since they are copied one by one too.
pub(crate) fn check_size<T>(rows: usize, columns: usize) -> Result<(), PosencError> {
    fn has_room<T>(len: usize) -> Option<()> {
        let mut list = Vec::<T>::new();
        let answer = list.try_reserve_exact(len).ok();
        black_box(list); // or the compiler may do without it
        answer
    }
    let has_room = |len: usize| match size_of::<T>() {
        0 => has_room::<u8>(len),
        _ => has_room::<T>(len),
    };
    rows.checked_mul(columns)
        .and_then(has_room)
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
