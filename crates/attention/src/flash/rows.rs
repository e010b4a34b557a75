//! Keys or values of one key-value head, wherever their rows lie.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2, s};

use llm_numerics::Float;

/// The keys or the values of one key-value head: `[kv_seq, features]`.
pub(crate) trait Rows<F> {
    /// Calls `work` with the rows of a range, in order, counted from the start of the range.
    ///
    /// `buffer` has room for a row.
    fn for_each(&self, range: Range<usize>, buffer: &mut [F], work: impl FnMut(usize, &[F]));
}

impl<F: Float> Rows<F> for ArrayView2<'_, F> {
    #[inline(always)]
    fn for_each(&self, range: Range<usize>, buffer: &mut [F], mut work: impl FnMut(usize, &[F])) {
        for (j, row) in self.slice(s![range, ..]).outer_iter().enumerate() {
            work(j, contiguous(&row, buffer));
        }
    }
}

/// The row as a slice, copied if its elements do not lie side by side.
#[inline(always)]
fn contiguous<'a, F: Float>(row: &ArrayView1<'a, F>, buffer: &'a mut [F]) -> &'a [F] {
    if let Some(row) = row.to_slice() {
        return row;
    }
    let buffer = &mut buffer[..row.len()];
    buffer.iter_mut().zip(row).for_each(|(y, &x)| *y = x);
    buffer
}
