//! Where the tokens of a ring lie, and how rows are cropped, permuted and emptied.

use ndarray::{Array4, ArrayRef3, ArrayView3, Axis, s};
use num_traits::Zero;

use super::{RingCache, RingConfig, Row};
use crate::KvCacheError;
use crate::token::{self, TokenShape};

impl<E: Copy + Zero> RingCache<E> {
    /// Keeps the tokens before position `seen`, as after a rejected guess.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Row`] if there is no such row.
    /// - [`KvCacheError::CropLen`] if the row has not seen as many tokens.
    /// - [`KvCacheError::CropLost`] if a token of the window that the next query sees was
    ///   overwritten: more than `slack + 1` tokens were taken back.
    pub fn crop(&mut self, row: usize, seen: usize) -> Result<(), KvCacheError> {
        self.check_crop(row, seen)?;
        self.rows[row] = self.rows[row].cropped(seen);
        Ok(())
    }

    /// Replaces every sequence `i` by what sequence `rows[i]` was: the survivors of a beam search.
    ///
    /// # Shapes
    ///
    /// - `rows`: `[batch]`; a row may be named often or never
    ///
    /// # Errors
    ///
    /// [`KvCacheError::ReorderLen`], [`KvCacheError::Row`], and [`KvCacheError::Allocation`] if
    /// there is no memory for a second cache.
    pub fn reorder(&mut self, rows: &[usize]) -> Result<(), KvCacheError> {
        token::check_sources(self.batch(), rows.len())?;
        *self = self.select(rows)?;
        Ok(())
    }

    /// A new cache whose sequence `i` is sequence `rows[i]` of this one.
    ///
    /// # Shapes
    ///
    /// - `rows`: any number of rows, each as often as wanted
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], and those of [`new`](Self::new).
    pub fn select(&self, rows: &[usize]) -> Result<Self, KvCacheError> {
        rows.iter().try_for_each(|&row| self.row(row).map(|_| ()))?;
        let config = RingConfig::new(rows.len(), self.n_kv_heads(), self.window, self.head_dim())
            .with_slack(self.capacity() - self.window)
            .with_value_dim(self.value_dim());
        let mut new = Self::new(&config)?;
        for (to, &from) in rows.iter().enumerate() {
            let copy = |from_array: &Array4<E>, to_array: &mut Array4<E>| {
                let source = from_array.index_axis(Axis(0), from);
                to_array.index_axis_mut(Axis(0), to).assign(&source);
            };
            copy(&self.keys, &mut new.keys);
            copy(&self.values, &mut new.values);
            new.rows[to] = self.rows[from];
        }
        Ok(new)
    }

    /// Forgets all tokens of all sequences; the memory stays.
    pub fn clear(&mut self) {
        self.rows.fill(Row::default());
    }

    pub(super) fn row(&self, row: usize) -> Result<Row, KvCacheError> {
        self.rows.get(row).copied().ok_or(KvCacheError::Row {
            row,
            batch: self.batch(),
        })
    }

    /// Refuses what [`crop`](Self::crop) says it does.
    pub(crate) fn check_crop(&self, row: usize, seen: usize) -> Result<(), KvCacheError> {
        self.row(row)?.check_crop(row, seen, self.window)
    }

    /// Refuses what [`append`](Self::append) says it does.
    pub(crate) fn check_append(
        &self,
        row: usize,
        k: [usize; 3],
        v: [usize; 3],
    ) -> Result<(), KvCacheError> {
        let state = self.row(row)?;
        let token = TokenShape {
            n_kv_heads: self.n_kv_heads(),
            head_dim: self.head_dim(),
            value_dim: self.value_dim(),
        };
        token.check(k, v)?;
        state.check_append(row, k[1])
    }

    // ANCHOR: write
    /// Writes tokens that were checked.
    pub(crate) fn write(&mut self, row: usize, k: &ArrayRef3<E>, v: &ArrayRef3<E>) {
        let capacity = self.capacity();
        let seq = k.dim().1;
        let state = &mut self.rows[row];
        let mut start = state.first_written(seq, capacity);
        *state = state.appended(seq, capacity);
        let end = state.seen;
        while start < end {
            let place = start % capacity;
            let n = (capacity - place).min(end - start);
            let new = seq - (end - start);
            let (to, from) = (s![row, .., place..place + n, ..], s![.., new..new + n, ..]);
            self.keys.slice_mut(to).assign(&k.slice(from));
            self.values.slice_mut(to).assign(&v.slice(from));
            start += n;
        }
    }
    // ANCHOR_END: write

    /// Fills a row that holds nothing with tokens from a position on.
    pub(crate) fn restore(&mut self, row: usize, first: usize, k: &ArrayRef3<E>, v: &ArrayRef3<E>) {
        self.rows[row] = Row { first, seen: first };
        self.write(row, k, v);
    }

    /// The tokens of a row, up to the end of the memory and from its start.
    pub(super) fn parts<'a>(
        &self,
        array: &'a Array4<E>,
        row: usize,
        state: Row,
    ) -> [ArrayView3<'a, E>; 2] {
        let capacity = self.capacity();
        let place = state.first % capacity;
        let n = state.seen - state.first;
        let older = n.min(capacity - place);
        [
            array.slice(s![row, .., place..place + older, ..]),
            array.slice(s![row, .., ..n - older, ..]),
        ]
    }
}
