//! Mutable arrays cut into pieces that different tasks may own, and ranges cut to a piece.

use std::ops::Range;

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

/// The part of `range` that lies in `piece`, counted from the start of `piece`.
#[inline(always)]
pub(super) fn within(range: Range<usize>, piece: &Range<usize>) -> Range<usize> {
    let [start, end] = [range.start, range.end].map(|x| x.clamp(piece.start, piece.end));
    start - piece.start..end - piece.start
}
