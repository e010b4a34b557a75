//! The keys or the values of one sequence and one head, as its pages hold them.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView3, ArrayView4, Axis, s};

use super::PageElement;
use crate::flash::{Rows, ahead};
use llm_numerics::{Float, simd};

/// The rows of a sequence, `[length, features]`, page by page.
///
/// The table holds page numbers below the number of pages, as far as the rows are asked for.
pub(super) struct PageRows<'a, S> {
    pub(super) pages: Pages<'a, S>,
    /// With rows of one number.
    pub(super) scales: Option<Pages<'a, f32>>,
    pub(super) table: ArrayView1<'a, u32>, // [max_pages]
}

/// What all pages hold for one key-value head.
pub(super) struct Pages<'a, S> {
    view: ArrayView3<'a, S>, // [n_pages, page_size, features]
    packed: Option<Packed<'a, S>>,
}

/// The same as plain memory, where rows lie one behind the other.
///
/// Slicing a view costs some 20 ns, and a page of keys is used up in 200.
struct Packed<'a, S> {
    all: &'a [S],
    /// Elements from page to page.
    page: usize,
    /// Where the head starts in a page.
    head: usize,
}

impl<'a, S> Pages<'a, S> {
    /// Those of one head; `pool` is `[n_pages, n_kv_heads, page_size, features]`.
    pub(super) fn of_head(pool: ArrayView4<'a, S>, kv_head: usize) -> Self {
        let (_, n_kv_heads, page_size, features) = pool.dim();
        let of_head = page_size * features;
        Self {
            packed: pool.to_slice().map(|all| Packed {
                all,
                page: n_kv_heads * of_head,
                head: kv_head * of_head,
            }),
            view: pool.index_axis_move(Axis(1), kv_head),
        }
    }

    fn page_size(&self) -> usize {
        self.view.len_of(Axis(1))
    }

    fn features(&self) -> usize {
        self.view.len_of(Axis(2))
    }

    /// Some rows of a page.
    #[inline(always)]
    fn part(&self, page: usize, rows: Range<usize>) -> Part<'a, S> {
        match &self.packed {
            Some(Packed {
                all,
                page: of_page,
                head,
            }) => {
                let features = self.features();
                let start = page * *of_page + *head + rows.start * features;
                Part::Packed(&all[start..start + rows.len() * features])
            }
            None => Part::Strided(self.view.slice_move(s![page, rows, ..])),
        }
    }
}

/// Some rows that follow each other in one page.
enum Part<'a, S> {
    Packed(&'a [S]),
    Strided(ArrayView2<'a, S>), // [rows, features]
}

/// Rows of one page with their scales.
struct Run<'a, S> {
    n_rows: usize,
    features: usize,
    rows: Part<'a, S>,
    scales: Option<Part<'a, f32>>,
}

impl<'a, S> Run<'a, S> {
    /// The rows where they are, if they can be computed with and lie one behind the other.
    #[inline(always)]
    fn in_place<F>(&self) -> Option<&'a [F]>
    where
        S: PageElement<F>,
    {
        match &self.rows {
            Part::Packed(rows) => S::as_floats(rows),
            Part::Strided(rows) => S::as_floats(rows.to_slice()?),
        }
    }

    #[inline(always)]
    fn scale(&self, row: usize) -> f32 {
        match &self.scales {
            None => 1.0,
            Some(Part::Packed(scales)) => scales[row],
            Some(Part::Strided(scales)) => scales[[row, 0]],
        }
    }

    /// The leading rows as numbers that can be computed with, one behind the other; as many as there is room for.
    #[inline(always)]
    fn widen<F: Float>(&self, to: &mut [F])
    where
        S: PageElement<F>,
    {
        if let (Part::Packed(rows), None) = (&self.rows, &self.scales) {
            return S::widen_row(&rows[..to.len()], 1.0, to);
        }
        let features = self.features.max(1);
        let to = to.chunks_exact_mut(features).enumerate();
        match &self.rows {
            Part::Packed(rows) => {
                for ((j, to), row) in to.zip(rows.chunks_exact(features)) {
                    S::widen_row(row, self.scale(j), to);
                }
            }
            Part::Strided(rows) => {
                for ((j, to), row) in to.zip(rows.outer_iter()) {
                    for (y, x) in to.iter_mut().zip(row) {
                        *y = x.widen(self.scale(j));
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
        let page_size = self.pages.page_size();
        let (index, first) = (range.start / page_size, range.start % page_size);
        let rows = first..page_size.min(first + range.len());
        let page = self.table[index] as usize;
        Run {
            n_rows: rows.len(),
            features: self.pages.features(),
            scales: self
                .scales
                .as_ref()
                .map(|scales| scales.part(page, rows.clone())),
            rows: self.pages.part(page, rows),
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
        let features = run.features;
        if run.n_rows == range.len()
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
            let (of_run, rest) = to.split_at_mut(run.n_rows * run.features);
            run.widen(of_run);
            range.start += run.n_rows;
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
        let features = run.features;
        let in_page = run.n_rows - run.n_rows % B;
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
        let features = self.pages.features();
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
    run: Option<Run<'a, S>>,
    /// Place of the next in it.
    next: usize,
}

impl<'r, 'a, S> Ahead<'r, 'a, S> {
    #[inline(always)]
    fn new(rows: &'r PageRows<'a, S>, start: usize, end: usize) -> Self {
        Self {
            rows,
            left: start + ahead::<S>(rows.pages.features())..end,
            run: None,
            next: 0,
        }
    }

    /// The next `n` rows, as far as there are any.
    #[inline(always)]
    fn ask(&mut self, n: usize) {
        for _ in 0..n.min(self.left.len()) {
            if self.run.as_ref().is_none_or(|run| self.next == run.n_rows) {
                self.run = Some(self.rows.run(&self.left));
                self.next = 0;
            }
            let Some(run) = &self.run else { return };
            match &run.rows {
                Part::Packed(rows) => {
                    simd::prefetch(&rows[self.next * run.features..][..run.features]);
                }
                Part::Strided(rows) => {
                    if let Some(row) = rows.row(self.next).to_slice() {
                        simd::prefetch(row);
                    }
                }
            }
            self.next += 1;
            self.left.start += 1;
        }
    }
}
