//! Room that comes in blocks, at most twice as much as is needed.

use ndarray::{Array4, s};
use num_traits::Zero;

use super::ContiguousCache;
use crate::KvCacheError;
use crate::memory::zeros;

impl<F: Copy + Zero> ContiguousCache<F> {
    /// An empty cache that grows as tokens come, by whole blocks.
    ///
    /// ```text
    /// capacity' = block * ceil(max(needed, 2 * capacity) / block)
    /// ```
    ///
    /// All rows have the capacity that the longest needs. Because the capacity doubles at
    /// least, all copies of `n` tokens appended to one row together are fewer than `2 n` (other rows of a batch are copied
    /// along when one grows); a cache that only added a block each time would copy a number that grows with `n^2`.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Block`] if `block` is 0.
    /// - [`KvCacheError::Size`] if a product of the axes overflows.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_kvcache::ContiguousCache;
    /// use ndarray::Array3;
    ///
    /// let mut cache = ContiguousCache::<f32>::growing(1, 2, 16, 8, 8)?;
    /// assert_eq!(cache.capacity(), 0);
    /// let token = Array3::<f32>::ones([2, 1, 8]);
    /// for _ in 0..17 {
    ///     cache.append(0, &token, &token)?;
    /// }
    /// assert_eq!(cache.capacity(), 32);
    /// # Ok::<(), llm_kvcache::KvCacheError>(())
    /// ```
    ///
    /// Source: the doubling is the textbook's dynamic table (Cormen et al., section 16.4).
    pub fn growing(
        batch: usize,
        n_kv_heads: usize,
        block: usize,
        head_dim: usize,
        value_dim: usize,
    ) -> Result<Self, KvCacheError> {
        if block == 0 {
            return Err(KvCacheError::Block);
        }
        let mut cache = Self::new(batch, n_kv_heads, 0, head_dim, value_dim)?;
        cache.block = Some(block);
        Ok(cache)
    }

    /// Makes room for so many tokens in each row, or changes nothing.
    pub(super) fn ensure(&mut self, needed: usize) -> Result<(), KvCacheError> {
        let capacity = self.capacity();
        let Some(block) = self.block.filter(|_| needed > capacity) else {
            return Ok(());
        };
        let capacity = needed
            .max(capacity.saturating_mul(2))
            .div_ceil(block)
            .saturating_mul(block);
        let (batch, n_kv_heads) = (self.batch(), self.n_kv_heads());
        let mut keys = zeros([batch, n_kv_heads, capacity, self.head_dim()])?;
        let mut values = zeros([batch, n_kv_heads, capacity, self.value_dim()])?;
        for (row, &len) in self.lengths.iter().enumerate() {
            copy_row(&self.keys, &mut keys, row, len);
            copy_row(&self.values, &mut values, row, len);
        }
        (self.keys, self.values) = (keys, values);
        Ok(())
    }
}

/// Copies the tokens that count.
fn copy_row<F: Copy>(from: &Array4<F>, to: &mut Array4<F>, row: usize, len: usize) {
    let tokens = s![row, .., ..len, ..];
    to.slice_mut(tokens).assign(&from.slice(tokens));
}
