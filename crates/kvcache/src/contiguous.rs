//! The contiguous cache of one layer: preallocated, or growing in blocks.

mod growth;
mod reorder;

use ndarray::{Array4, ArrayRef3, ArrayRef4, ArrayView3, ArrayView4, s};
use num_traits::Zero;

use crate::KvCacheError;
use crate::memory::{reserve, zeros};
use crate::token::{self, TokenShape};

/// Keys and values of one layer, for a batch of sequences of their own lengths.
///
/// A cache made by [`new`](Self::new) takes all its memory at once: appending copies the new
/// tokens behind the old ones and never moves those. One made by [`growing`](Self::growing)
/// takes memory in blocks. Rows are sequences. What a key contains (with or without a
/// rotation for its position) is the caller's business, and so is the number type: `f32`,
/// `f64`, `f16`, `bf16`.
///
/// # Shapes
///
/// - keys: `[batch, kv_heads, capacity, head_dim]`
/// - values: `[batch, kv_heads, capacity, value_dim]`
///
/// # Invariants
///
/// - Both arrays are in row-major order; only the capacity of a growing cache changes, and only upwards.
/// - There is one length for each row, and none is above `capacity`.
/// - Elements at or behind a row's length are zeros or left over from tokens that were
///   cropped; no row view shows them.
/// - A call that returns an error has changed nothing.
///
/// # Example
///
/// ```
/// use llm_kvcache::ContiguousCache;
/// use ndarray::{Array3, array};
///
/// let mut cache = ContiguousCache::<f32>::new(1, 2, 8, 1, 1)?;
/// cache.append(0, &array![[[1.0], [2.0]], [[3.0], [4.0]]], &Array3::zeros([2, 2, 1]))?;
/// cache.append(0, &array![[[5.0]], [[6.0]]], &Array3::zeros([2, 1, 1]))?;
/// assert_eq!(cache.keys(0)?, array![[[1.0], [2.0], [5.0]], [[3.0], [4.0], [6.0]]]);
///
/// cache.crop(0, 1)?; // the last two tokens were a wrong guess
/// assert_eq!(cache.keys(0)?, array![[[1.0]], [[3.0]]]);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ContiguousCache<F> {
    pub(crate) keys: Array4<F>,      // [batch, kv_heads, capacity, head_dim]
    pub(crate) values: Array4<F>,    // [batch, kv_heads, capacity, value_dim]
    pub(crate) lengths: Vec<usize>,  // [batch]
    pub(crate) block: Option<usize>, // tokens in which the capacity grows
}

impl<F: Copy + Zero> ContiguousCache<F> {
    /// An empty cache with all its memory.
    ///
    /// Any axis may be zero. `value_dim` is `head_dim` in all common models.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Size`] if a product of the axes overflows.
    /// - [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn new(
        batch: usize,
        n_kv_heads: usize,
        capacity: usize,
        head_dim: usize,
        value_dim: usize,
    ) -> Result<Self, KvCacheError> {
        let keys = zeros([batch, n_kv_heads, capacity, head_dim])?;
        let values = zeros([batch, n_kv_heads, capacity, value_dim])?;
        let mut lengths = reserve(batch)?;
        lengths.resize(batch, 0);
        Ok(Self {
            keys,
            values,
            lengths,
            block: None,
        })
    }

    /// Adds tokens to one sequence.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    /// - `v`: `[kv_heads, seq, value_dim]`, any strides
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`], and
    /// [`KvCacheError::Full`] if the tokens do not fit; in a growing cache [`KvCacheError::Size`]
    /// or [`KvCacheError::Allocation`] instead.
    pub fn append(
        &mut self,
        row: usize,
        k: &ArrayRef3<F>,
        v: &ArrayRef3<F>,
    ) -> Result<(), KvCacheError> {
        let len = self.len(row)?;
        self.token().check(k.dim().into(), v.dim().into())?;
        let seq = k.dim().1;
        let end = self.end(row, len, seq)?;
        self.ensure(end)?;
        self.keys.slice_mut(s![row, .., len..end, ..]).assign(k);
        self.values.slice_mut(s![row, .., len..end, ..]).assign(v);
        self.lengths[row] = end;
        Ok(())
    }

    /// Adds as many tokens to every sequence; their lengths may differ.
    ///
    /// # Shapes
    ///
    /// - `k`: `[batch, kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    /// - `v`: `[batch, kv_heads, seq, value_dim]`, any strides
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Batch`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`], and
    /// [`KvCacheError::Full`], naming the first row without room: then no row is changed. In a
    /// growing cache [`KvCacheError::Size`] or [`KvCacheError::Allocation`] instead.
    pub fn append_all(&mut self, k: &ArrayRef4<F>, v: &ArrayRef4<F>) -> Result<(), KvCacheError> {
        let (k_shape, v_shape) = token::of_rows(self.batch(), k, v)?;
        self.token().check(k_shape, v_shape)?;
        let seq = k_shape[1];
        let mut longest = 0;
        for (row, &len) in self.lengths.iter().enumerate() {
            longest = longest.max(self.end(row, len, seq)?);
        }
        self.ensure(longest)?;
        for (row, len) in self.lengths.iter_mut().enumerate() {
            let end = *len + seq;
            self.keys
                .slice_mut(s![row, .., *len..end, ..])
                .assign(&k.slice(s![row, .., .., ..]));
            self.values
                .slice_mut(s![row, .., *len..end, ..])
                .assign(&v.slice(s![row, .., .., ..]));
            *len = end;
        }
        Ok(())
    }

    /// The keys of one sequence.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, kv_seq, head_dim]`, `kv_seq` its length
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn keys(&self, row: usize) -> Result<ArrayView3<'_, F>, KvCacheError> {
        let len = self.len(row)?;
        Ok(self.keys.slice(s![row, .., ..len, ..]))
    }

    /// The values of one sequence.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, kv_seq, value_dim]`, `kv_seq` its length
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn values(&self, row: usize) -> Result<ArrayView3<'_, F>, KvCacheError> {
        let len = self.len(row)?;
        Ok(self.values.slice(s![row, .., ..len, ..]))
    }

    /// The keys of all sequences, up to the longest.
    ///
    /// A row's elements behind its own length (see [`lengths`](Self::lengths)) are finite
    /// or not, old or zero: they have to be masked out.
    ///
    /// # Shapes
    ///
    /// - returns: `[batch, kv_heads, kv_seq, head_dim]`, `kv_seq` the greatest length
    #[must_use]
    pub fn padded_keys(&self) -> ArrayView4<'_, F> {
        self.keys.slice(s![.., .., ..self.max_len(), ..])
    }

    /// The values of all sequences, up to the longest; see [`padded_keys`](Self::padded_keys).
    ///
    /// # Shapes
    ///
    /// - returns: `[batch, kv_heads, kv_seq, value_dim]`, `kv_seq` the greatest length
    #[must_use]
    pub fn padded_values(&self) -> ArrayView4<'_, F> {
        self.values.slice(s![.., .., ..self.max_len(), ..])
    }

    /// Tokens that one sequence holds.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn len(&self, row: usize) -> Result<usize, KvCacheError> {
        self.lengths.get(row).copied().ok_or(KvCacheError::Row {
            row,
            batch: self.batch(),
        })
    }

    /// Tokens that each sequence holds.
    #[must_use]
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Tokens that the longest sequence holds; 0 without sequences.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// True if no sequence holds a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.max_len() == 0
    }

    /// Number of sequences.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.lengths.len()
    }

    /// Key-value heads.
    #[must_use]
    pub fn n_kv_heads(&self) -> usize {
        self.keys.dim().1
    }

    /// Tokens that a sequence can hold; for now, in a growing cache.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.keys.dim().2
    }

    /// Features of a key.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.keys.dim().3
    }

    /// Features of a value.
    #[must_use]
    pub fn value_dim(&self) -> usize {
        self.values.dim().3
    }

    /// Bytes of keys and values together, used or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<F>()
    }

    /// Keeps the first `len` tokens of one sequence, as after a rejected guess.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], and [`KvCacheError::CropLen`] if the row holds fewer than `len`.
    pub fn crop(&mut self, row: usize, len: usize) -> Result<(), KvCacheError> {
        let old = self.len(row)?;
        if len > old {
            return Err(KvCacheError::CropLen {
                row,
                len: old,
                got: len,
            });
        }
        self.lengths[row] = len;
        Ok(())
    }

    /// A new cache of the same capacity whose sequence `i` is sequence `rows[i]` of this one.
    ///
    /// `[0, 0, 1, 1]` makes two beams of each of two prompts.
    ///
    /// # Shapes
    ///
    /// - `rows`: any number of rows, each as often as wanted
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], and those of [`new`](Self::new).
    pub fn select(&self, rows: &[usize]) -> Result<Self, KvCacheError> {
        self.check_rows(rows)?;
        let mut new = Self::new(
            rows.len(),
            self.n_kv_heads(),
            self.capacity(),
            self.head_dim(),
            self.value_dim(),
        )?;
        new.block = self.block;
        for (row, &source) in rows.iter().enumerate() {
            let len = self.lengths[source];
            new.keys
                .slice_mut(s![row, .., ..len, ..])
                .assign(&self.keys.slice(s![source, .., ..len, ..]));
            new.values
                .slice_mut(s![row, .., ..len, ..])
                .assign(&self.values.slice(s![source, .., ..len, ..]));
            new.lengths[row] = len;
        }
        Ok(new)
    }

    /// Forgets all tokens of all sequences; the memory stays.
    pub fn clear(&mut self) {
        self.lengths.fill(0);
    }

    /// The length of a row after `seq` more tokens, if they fit.
    fn end(&self, row: usize, len: usize, seq: usize) -> Result<usize, KvCacheError> {
        let capacity = match self.block {
            None => self.capacity(),
            Some(_) => usize::MAX,
        };
        if seq > capacity - len {
            return Err(KvCacheError::Full {
                row,
                len,
                seq,
                capacity,
            });
        }
        Ok(len + seq)
    }

    fn check_rows(&self, rows: &[usize]) -> Result<(), KvCacheError> {
        rows.iter().try_for_each(|&row| self.len(row).map(|_| ()))
    }

    fn token(&self) -> TokenShape {
        TokenShape {
            n_kv_heads: self.n_kv_heads(),
            head_dim: self.head_dim(),
            value_dim: self.value_dim(),
        }
    }
}
