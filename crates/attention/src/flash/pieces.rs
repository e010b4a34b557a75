//! Mutable arrays cut into pieces that different tasks may own.

use ndarray::{ArrayViewMut, Axis, Dimension};

/// Runs of `length` along the first axis; the last may be shorter.
pub(super) fn runs<F, D: Dimension>(
    mut array: ArrayViewMut<'_, F, D>,
    length: usize,
) -> Vec<ArrayViewMut<'_, F, D>> {
    let mut runs = Vec::new();
    while array.len_of(Axis(0)) > length {
        let (first, rest) = array.split_at(Axis(0), length);
        runs.push(first);
        array = rest;
    }
    if array.len_of(Axis(0)) > 0 {
        runs.push(array);
    }
    runs
}
