//! Keys or values of one key-value head, wherever their rows lie.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2};

use llm_numerics::{Float, simd};

/// Bytes between the row that is used and the one that is asked for.
const AHEAD: usize = 16 << 10;

/// The keys or the values of one key-value head: `[kv_seq, features]`.
pub(crate) trait Rows<F> {
    /// Calls `work` with `B` rows after the other, in order, and where the first stands in the range.
    ///
    /// The range has a multiple of `B` rows, `buffer` has room for `B` of them or more. The memory is asked ahead for rows
    /// that will be used soon, in the range and then up to `end`: otherwise the arithmetic would wait for them.
    fn for_each<const B: usize>(
        &self,
        range: Range<usize>,
        end: usize,
        buffer: &mut [F],
        work: impl FnMut(usize, [&[F]; B]),
    );
}

impl<F: Float> Rows<F> for ArrayView2<'_, F> {
    #[inline(always)]
    fn for_each<const B: usize>(
        &self,
        range: Range<usize>,
        end: usize,
        buffer: &mut [F],
        mut work: impl FnMut(usize, [&[F]; B]),
    ) {
        let ahead = ahead::<F>(self.ncols());
        for j in range.clone().step_by(B) {
            for row in j + ahead..end.min(j + ahead + B) {
                if let Some(row) = self.row(row).to_slice() {
                    simd::prefetch(row);
                }
            }
            let mut buffers = Buffers(&mut *buffer);
            let mut rows = [&[][..]; B];
            for (b, row) in rows.iter_mut().enumerate() {
                *row = contiguous(&self.row(j + b), buffers.next(self.ncols()));
            }
            work(j - range.start, rows);
        }
    }
}

/// How many rows of so many elements lie ahead.
pub(crate) fn ahead<S>(features: usize) -> usize {
    AHEAD / (features * size_of::<S>()).clamp(1, AHEAD)
}

/// A buffer that is handed out row by row.
struct Buffers<'a, F>(&'a mut [F]);

impl<'a, F> Buffers<'a, F> {
    /// Room for the next row.
    #[inline(always)]
    fn next(&mut self, features: usize) -> &'a mut [F] {
        let (row, rest) = std::mem::take(&mut self.0).split_at_mut(features);
        self.0 = rest;
        row
    }
}

/// The row as a slice, copied if its elements do not lie side by side.
#[inline(always)]
fn contiguous<'a, F: Float>(row: &ArrayView1<'a, F>, buffer: &'a mut [F]) -> &'a [F] {
    if let Some(row) = row.to_slice() {
        return row;
    }
    buffer.iter_mut().zip(row).for_each(|(y, &x)| *y = x);
    buffer
}
