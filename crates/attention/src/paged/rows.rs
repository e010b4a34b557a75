//! The keys or the values of one sequence and one head, as its pages hold them.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView3, Axis, s};

use super::PageElement;
use crate::flash::{Rows, ahead};
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
#[derive(Clone, Copy)]
struct Run<'a, S> {
    rows: ArrayView2<'a, S>,             // [rows, features]
    scales: Option<ArrayView1<'a, f32>>, // [rows]
}

impl<'a, S> Run<'a, S> {
    /// The rows where they are, if they can be computed with and lie one behind the other.
    #[inline(always)]
    fn in_place<F>(&self) -> Option<&'a [F]>
    where
        S: PageElement<F>,
    {
        S::as_floats(self.rows.to_slice()?)
    }

    /// The leading rows as numbers that can be computed with, one behind the other; as many as there is room for.
    #[inline(always)]
    fn widen<F: Float>(&self, to: &mut [F])
    where
        S: PageElement<F>,
    {
        let to = to.chunks_exact_mut(self.rows.ncols().max(1));
        for (j, (row, to)) in self.rows.outer_iter().zip(to).enumerate() {
            let scale = self.scales.map_or(1.0, |scales| scales[j]);
            match row.to_slice() {
                Some(row) => S::widen_row(row, scale, to),
                None => {
                    for (y, x) in to.iter_mut().zip(row) {
                        *y = x.widen(scale);
                    }
                }
            }
        }
    }
}

/// Room for a tile of rows that cannot be read where they are.
pub(super) struct Copied<F>(Array2<F>); // [key_tile, features]

impl<F: Float> Copied<F> {
    pub(super) fn new(key_tile: usize, features: usize) -> Self {
        Self(Array2::zeros((key_tile, features)))
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

    /// The rows of a range that is not empty, one behind the other: where they are, or copied.
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
        let features = run.rows.ncols();
        if run.rows.nrows() == range.len()
            && let Some(rows) = run.in_place()
            && let Ok(rows) = ArrayView2::from_shape((range.len(), features), rows)
        {
            return rows;
        }
        let tile = copy.0.as_slice_mut().unwrap_or_default(); // zeros are contiguous
        simd::vectorize(
            #[inline(always)]
            || self.copy(range.clone(), &mut tile[..range.len() * features]),
        );
        copy.0.slice(s![..range.len(), ..])
    }

    /// Writes the rows of a range one behind the other.
    #[inline(always)]
    fn copy<F: Float>(&self, mut range: Range<usize>, mut to: &mut [F])
    where
        S: PageElement<F>,
    {
        while !range.is_empty() {
            let run = self.run(&range);
            let (of_run, rest) = to.split_at_mut(run.rows.len());
            run.widen(of_run);
            range.start += run.rows.nrows();
            to = rest;
        }
    }

    /// Some rows of a range, a multiple of `B`, one behind the other: of one page, or `B` of several.
    #[inline(always)]
    fn block<'b, F: Float, const B: usize>(
        &self,
        range: &Range<usize>,
        buffer: &'b mut [F],
    ) -> (usize, &'b [F])
    where
        S: PageElement<F>,
        'a: 'b,
    {
        let run = self.run(range);
        let features = run.rows.ncols();
        let in_page = run.rows.nrows() - run.rows.nrows() % B;
        if in_page == 0 {
            let buffer = &mut buffer[..B * features];
            self.copy(range.start..range.start + B, buffer);
            return (B, buffer);
        }
        if let Some(rows) = run.in_place() {
            return (in_page, rows);
        }
        let room = buffer.len() / features.max(1);
        let rows = in_page.min(room - room % B);
        let buffer = &mut buffer[..rows * features];
        run.widen(buffer);
        (rows, buffer)
    }
}

impl<F: Float, S: PageElement<F>> Rows<F> for PageRows<'_, S> {
    #[inline(always)]
    fn for_each<const B: usize>(
        &self,
        range: Range<usize>,
        end: usize,
        buffer: &mut [F],
        mut work: impl FnMut(usize, [&[F]; B]),
    ) {
        if range.is_empty() {
            return; // there may be no page
        }
        let features = self.pages.len_of(Axis(2));
        let mut ahead = Ahead::new(self, range.start, end);
        let mut first = range.start;
        while first < range.end {
            let (n_rows, block) = self.block::<F, B>(&(first..range.end), buffer);
            for j in (0..n_rows).step_by(B) {
                ahead.ask(B);
                let mut rows = [&[][..]; B];
                for (b, row) in rows.iter_mut().enumerate() {
                    *row = &block[(j + b) * features..][..features];
                }
                work(first + j - range.start, rows);
            }
            first += n_rows;
        }
    }
}

/// Asks the memory for rows some way ahead of those that are used.
struct Ahead<'r, 'a, S> {
    rows: &'r PageRows<'a, S>,
    /// Those to ask for.
    left: Range<usize>,
    /// The first of them, up to the end of their page.
    page: ArrayView2<'a, S>,
    /// Place of the next in it.
    next: usize,
}

impl<'r, 'a, S> Ahead<'r, 'a, S> {
    /// There is at least one page.
    #[inline(always)]
    fn new(rows: &'r PageRows<'a, S>, start: usize, end: usize) -> Self {
        let features = rows.pages.len_of(Axis(2));
        let left = start + ahead::<S>(features)..end;
        let page = if left.is_empty() {
            rows.pages.slice_move(s![0, ..0, ..])
        } else {
            rows.run(&left).rows
        };
        Self {
            rows,
            left,
            page,
            next: 0,
        }
    }

    /// The next `n` rows, as far as there are any.
    #[inline(always)]
    fn ask(&mut self, n: usize) {
        for _ in 0..n.min(self.left.len()) {
            if self.next == self.page.nrows() {
                self.page = self.rows.run(&self.left).rows;
                self.next = 0;
            }
            if let Some(row) = self.page.row(self.next).to_slice() {
                simd::prefetch(row);
            }
            self.next += 1;
            self.left.start += 1;
        }
    }
}
