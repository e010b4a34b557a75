//! Rows of any stride as slices, and the cut of rows into tasks.

use llm_numerics::Float;
use ndarray::{ArrayView1, ArrayViewMut1};

/// Elements that are worth a task of their own.
const TASK: usize = 32 << 10;

/// Rows per task; depends on the shape alone, so results do not depend on threads.
pub(crate) fn per_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// The row as a slice: itself if contiguous, else copied to `buffer`.
#[inline(always)]
pub(crate) fn read<'a, F: Float>(row: ArrayView1<'a, F>, buffer: &'a mut Vec<F>) -> &'a [F] {
    if let Some(slice) = row.to_slice() {
        return slice;
    }
    buffer.clear();
    buffer.extend(row.iter().copied());
    buffer
}

/// Lets `work` fill the row as a slice: itself if contiguous, else through `buffer`.
///
/// `work` must write every element; what it finds there is arbitrary.
#[inline(always)]
pub(crate) fn write<F: Float>(
    mut row: ArrayViewMut1<'_, F>,
    buffer: &mut Vec<F>,
    work: impl FnOnce(&mut [F]),
) {
    if let Some(slice) = row.as_slice_mut() {
        work(slice);
        return;
    }
    buffer.clear();
    buffer.resize(row.len(), F::zero());
    work(buffer);
    row.iter_mut()
        .zip(buffer)
        .for_each(|(to, from)| *to = *from);
}
