//! Beams change places: rows of a contiguous cache are permuted and copied in place.

use ndarray::s;
use num_traits::Zero;

use super::ContiguousCache;
use crate::memory::reserve;
use crate::{KvCacheError, token};

impl<F: Copy + Zero> ContiguousCache<F> {
    /// Replaces every sequence `i` by what sequence `rows[i]` was: the survivors of a beam search.
    ///
    /// Rows that stay are not copied, others once, and a cycle costs one spare row.
    ///
    /// # Shapes
    ///
    /// - `rows`: `[batch]`; a row may be named often or never
    ///
    /// # Errors
    ///
    /// [`KvCacheError::ReorderLen`], [`KvCacheError::Row`], and [`KvCacheError::Allocation`] if
    /// there is no memory for the plan or the spare row.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_kvcache::ContiguousCache;
    /// use ndarray::array;
    ///
    /// let mut cache = ContiguousCache::<f64>::new(3, 1, 4, 1, 1)?;
    /// let x = array![[[[1.0]]], [[[2.0]]], [[[3.0]]]];
    /// cache.append_all(&x, &x)?;
    /// cache.reorder(&[1, 1, 0])?;
    /// assert_eq!(cache.padded_keys(), array![[[[2.0]]], [[[2.0]]], [[[1.0]]]]);
    /// # Ok::<(), llm_kvcache::KvCacheError>(())
    /// ```
    pub fn reorder(&mut self, rows: &[usize]) -> Result<(), KvCacheError> {
        let batch = self.batch();
        token::check_sources(batch, rows.len())?;
        self.check_rows(rows)?;

        // How many other rows still want what a row holds now.
        let mut readers = reserve(batch)?;
        readers.resize(batch, 0_usize);
        let mut free = reserve(batch)?; // rows that nobody reads any more
        let longest = self.max_len();
        let features = self.head_dim() + self.value_dim();
        let mut spare = reserve(self.n_kv_heads() * longest * features)?;
        for (row, &source) in rows.iter().enumerate() {
            if row != source {
                readers[source] += 1;
            }
        }
        free.extend((0..batch).filter(|&row| readers[row] == 0 && rows[row] != row));

        let mut done = reserve(batch)?;
        done.extend(rows.iter().enumerate().map(|(row, &source)| row == source));
        // Chains first: a row that nobody reads can be written, which may free its source.
        while let Some(row) = free.pop() {
            let source = rows[row];
            self.copy_row(source, row);
            done[row] = true;
            readers[source] -= 1;
            if readers[source] == 0 && !done[source] {
                free.push(source);
            }
        }
        // What is left are cycles: set one row aside, go round, put it at the end.
        for start in 0..batch {
            if done[start] {
                continue;
            }
            let start_len = self.lengths[start];
            spare.clear();
            spare.extend(self.keys.slice(s![start, .., ..start_len, ..]).iter());
            spare.extend(self.values.slice(s![start, .., ..start_len, ..]).iter());
            let mut row = start;
            while rows[row] != start {
                self.copy_row(rows[row], row);
                done[row] = true;
                row = rows[row];
            }
            let mut saved = spare.iter();
            for array in [&mut self.keys, &mut self.values] {
                let mut target = array.slice_mut(s![row, .., ..start_len, ..]);
                target.iter_mut().zip(&mut saved).for_each(|(x, y)| *x = *y);
            }
            self.lengths[row] = start_len;
            done[row] = true;
        }
        Ok(())
    }

    /// Overwrites row `to` by row `from`, another one.
    fn copy_row(&mut self, from: usize, to: usize) {
        let len = self.lengths[from];
        for array in [&mut self.keys, &mut self.values] {
            let (source, mut target) =
                array.multi_slice_mut((s![from, .., ..len, ..], s![to, .., ..len, ..]));
            target.assign(&source);
        }
        self.lengths[to] = len;
    }
}
