//! The keys or the values of one sequence and one head, as its pages hold them.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView3, Axis, s};

use super::PageElement;
use crate::flash::Rows;
use llm_numerics::{Float, simd};

/// The rows of a sequence, `[length, features]`, page by page.
///
/// The table holds page numbers below the number of pages, as far as the rows are asked for.
pub(super) struct PageRows<'a, S> {
    pub(super) pages: ArrayView3<'a, S>, // [n_pages, page_size, features]
    pub(super) scales: Option<ArrayView2<'a, f32>>, // [n_pages, page_size]
    pub(super) table: ArrayView1<'a, u32>, // [max_pages]
}

/// Some rows that follow each other in one page.
struct Run<'a, S> {
    rows: ArrayView2<'a, S>,             // [rows, features]
    scales: Option<ArrayView1<'a, f32>>, // [rows]
}

/// Room for a tile of rows that cannot be read where they are.
pub(super) struct Copied<F> {
    rows: Array2<F>, // [key_tile, features]
    row: Vec<F>,     // [features]
}

impl<F: Float> Copied<F> {
    pub(super) fn new(key_tile: usize, features: usize) -> Self {
        Self {
            rows: Array2::zeros((key_tile, features)),
            row: vec![F::zero(); features],
        }
    }
}

impl<'a, S> PageRows<'a, S> {
    /// The rows of a range up to the end of the page in which it starts.
    #[inline(always)]
    fn run(&self, range: &Range<usize>) -> Run<'a, S> {
        let page_size = self.pages.len_of(Axis(1));
        let (index, first) = (range.start / page_size, range.start % page_size);
        let rows = first..page_size.min(first + range.len());
        let page = self.table[index] as usize;
        Run {
            rows: self.pages.slice_move(s![page, rows.clone(), ..]),
            scales: (self.scales).map(|scales| scales.slice_move(s![page, rows])),
        }
    }

    /// The rows one behind the other: where they are, or copied.
    pub(super) fn tile<'b, F: Float>(
        &self,
        range: Range<usize>,
        copy: &'b mut Copied<F>,
    ) -> ArrayView2<'b, F>
    where
        S: PageElement<F>,
        'a: 'b,
    {
        let run = self.run(&range);
        if run.rows.nrows() == range.len()
            && let Some(rows) = S::as_floats(&run.rows)
        {
            return rows;
        }
        let Copied { rows, row } = copy;
        let mut tile = rows.slice_mut(s![..range.len(), ..]);
        simd::vectorize(
            #[inline(always)]
            || {
                self.for_each(
                    range.clone(),
                    row,
                    #[inline(always)]
                    |j, row| {
                        if let Some(tile) = tile.row_mut(j).as_slice_mut() {
                            tile.copy_from_slice(row);
                        }
                    },
                );
            },
        );
        rows.slice(s![..range.len(), ..])
    }
}

impl<F: Float, S: PageElement<F>> Rows<F> for PageRows<'_, S> {
    #[inline(always)]
    fn for_each(&self, range: Range<usize>, buffer: &mut [F], mut work: impl FnMut(usize, &[F])) {
        let features = self.pages.len_of(Axis(2));
        let mut next = range.start;
        while next < range.end {
            let run = self.run(&(next..range.end));
            let first = next - range.start;
            let scale = |j: usize| run.scales.map_or(1.0, |scales| scales[j]);
            // Mostly the rows lie side by side, which is asked once.
            match run.rows.to_slice() {
                Some(all) if features > 0 => {
                    for (j, row) in all.chunks_exact(features).enumerate() {
                        work(first + j, S::row(row, scale(j), buffer));
                    }
                }
                _ => {
                    for (j, row) in run.rows.outer_iter().enumerate() {
                        work(first + j, S::gather(&row, scale(j), buffer));
                    }
                }
            }
            next += run.rows.nrows();
        }
    }
}
