//! A ring: the newest tokens of each sequence, in memory that does not grow.

mod config;
mod row;
mod store;

use ndarray::{Array3, ArrayRef3, ArrayView3, Axis, concatenate};
use num_traits::Zero;

use crate::memory::{reserve, zeros};
use crate::{KvCacheError, token};
pub use config::RingConfig;
pub(crate) use row::Row;

/// The newest `window + slack` tokens of each sequence of a batch, for models whose queries
/// see `window` keys, their own included (sliding-window attention).
///
/// Token `t` of a sequence lies at place `t % (window + slack)`, so an old token is overwritten
/// by a new one and nothing moves. `slack + 1` tokens can be taken back
/// ([`crop`](Self::crop)), and a chunk of `slack + 1` may come at once without losing keys that
/// its first query needs: `slack >= seq - 1`.
///
/// With slack, a row holds up to `window + slack` tokens, and [`key_parts`](Self::key_parts),
/// [`ordered_keys`](Self::ordered_keys) and those of the values return all of them: more than a query may see. So
/// attention needs a mask by position then, which lets a query at position `p` see the keys from `p + 1 - window` to `p`;
/// the key at index `i` has position `first_position(row) + i`.
///
/// # Shapes
///
/// - keys: `[batch, kv_heads, window + slack, head_dim]`
/// - values: `[batch, kv_heads, window + slack, value_dim]`
///
/// # Invariants
///
/// - A row holds the tokens from `first_position(row)` to before `seen(row)`, and they are at
///   most `window + slack`.
/// - All that the next query sees is there: `first_position <= max(0, seen + 1 - window)`.
/// - A call that returns an error has changed nothing.
///
/// # Example
///
/// ```
/// use llm_kvcache::ring::{RingCache, RingConfig};
/// use ndarray::{Array3, array};
///
/// // One sequence, one head of one feature, a window of 3, slack of 1.
/// let config = RingConfig::new(1, 1, 3, 1).with_slack(1);
/// let mut cache = RingCache::<f32>::new(&config)?;
/// let v = Array3::from_shape_fn([1, 6, 1], |(_, t, _)| t as f32);
/// cache.append(0, &v, &v)?;
/// assert_eq!((cache.first_position(0)?, cache.seen(0)?), (2, 6));
/// assert_eq!(cache.ordered_values(0)?, array![[[2.0], [3.0], [4.0], [5.0]]]);
///
/// cache.crop(0, 5)?; // token 5 was a wrong guess; 4's window (2, 3, 4) is still there
/// assert!(cache.crop(0, 3).is_err()); // the window of token 3 needs 1, which is gone
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: Beltagy et al., Longformer, arXiv:2004.05150v2, section 3.1, and the rolling buffer
/// of Jiang et al., Mistral 7B, arXiv:2310.06825v1, section 2.
#[derive(Clone, Debug)]
pub struct RingCache<E> {
    keys: ndarray::Array4<E>,   // [batch, kv_heads, window + slack, head_dim]
    values: ndarray::Array4<E>, // [batch, kv_heads, window + slack, value_dim]
    rows: Vec<Row>,             // [batch]
    window: usize,
}

impl<E: Copy + Zero> RingCache<E> {
    /// An empty cache with all its memory.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Window`] if `window` is 0.
    /// - [`KvCacheError::Size`] if a product of the axes overflows.
    /// - [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn new(config: &RingConfig) -> Result<Self, KvCacheError> {
        let RingConfig {
            batch,
            n_kv_heads,
            window,
            head_dim,
            value_dim,
            ..
        } = *config;
        let capacity = config.capacity()?;
        let keys = zeros([batch, n_kv_heads, capacity, head_dim])?;
        let values = zeros([batch, n_kv_heads, capacity, value_dim])?;
        let mut rows = reserve(batch)?;
        rows.resize(batch, Row::default());
        Ok(Self {
            keys,
            values,
            rows,
            window,
        })
    }

    /// Adds tokens to one sequence; the oldest make way. Of more than `capacity` tokens only the last are written.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    /// - `v`: `[kv_heads, seq, value_dim]`, any strides
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`], and
    /// [`KvCacheError::Seen`] if the tokens can no longer be counted.
    pub fn append(
        &mut self,
        row: usize,
        k: &ArrayRef3<E>,
        v: &ArrayRef3<E>,
    ) -> Result<(), KvCacheError> {
        self.check_append(row, k.dim().into(), v.dim().into())?;
        self.write(row, k, v);
        Ok(())
    }

    /// Adds as many tokens to every sequence, or none to any.
    ///
    /// # Shapes
    ///
    /// - `k`: `[batch, kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    /// - `v`: `[batch, kv_heads, seq, value_dim]`, any strides
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Batch`], and those of [`append`](Self::append).
    pub fn append_all(
        &mut self,
        k: &ndarray::ArrayRef4<E>,
        v: &ndarray::ArrayRef4<E>,
    ) -> Result<(), KvCacheError> {
        let (k_shape, v_shape) = token::of_rows(self.batch(), k, v)?;
        for row in 0..self.batch() {
            self.check_append(row, k_shape, v_shape)?;
        }
        for (row, (k, v)) in k.outer_iter().zip(v.outer_iter()).enumerate() {
            self.write(row, &k, &v);
        }
        Ok(())
    }

    /// The keys of one sequence where they lie: the older part, then the newer part.
    ///
    /// Both together are the tokens from [`first_position`](Self::first_position) on. Attention can read
    /// them as two pieces whose results are merged; nothing is copied.
    ///
    /// # Shapes
    ///
    /// - returns: two of `[kv_heads, part, head_dim]`; the second is empty as long as the ring has not come round
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn key_parts(&self, row: usize) -> Result<[ArrayView3<'_, E>; 2], KvCacheError> {
        let state = self.row(row)?;
        Ok(self.parts(&self.keys, row, state))
    }

    /// The values of one sequence where they lie; see [`key_parts`](Self::key_parts).
    ///
    /// # Shapes
    ///
    /// - returns: two of `[kv_heads, part, value_dim]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn value_parts(&self, row: usize) -> Result<[ArrayView3<'_, E>; 2], KvCacheError> {
        let state = self.row(row)?;
        Ok(self.parts(&self.values, row, state))
    }

    /// The keys of one sequence, copied into their order.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, kv_seq, head_dim]`, `kv_seq = seen - first_position`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn ordered_keys(&self, row: usize) -> Result<Array3<E>, KvCacheError> {
        Ok(joined(self.key_parts(row)?))
    }

    /// The values of one sequence, copied into their order.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, kv_seq, value_dim]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn ordered_values(&self, row: usize) -> Result<Array3<E>, KvCacheError> {
        Ok(joined(self.value_parts(row)?))
    }

    /// Position of the oldest token that a sequence holds.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn first_position(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.row(row)?.first)
    }

    /// Tokens that a sequence has seen: the position of the next.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn seen(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.row(row)?.seen)
    }

    /// Tokens that a sequence holds.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn len(&self, row: usize) -> Result<usize, KvCacheError> {
        let row = self.row(row)?;
        Ok(row.seen - row.first)
    }

    /// True if no sequence holds a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.seen == row.first)
    }

    /// Number of sequences.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.rows.len()
    }

    /// Key-value heads.
    #[must_use]
    pub fn n_kv_heads(&self) -> usize {
        self.keys.dim().1
    }

    /// Keys that a query sees, its own included.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
    }

    /// Tokens that a row holds at most: `window + slack`.
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
        (self.keys.len() + self.values.len()) * size_of::<E>()
    }
}

/// One part behind the other.
fn joined<E: Copy + Zero>([older, newer]: [ArrayView3<'_, E>; 2]) -> Array3<E> {
    // The parts differ only in their second axis, so that this cannot fail.
    concatenate(Axis(1), &[older, newer]).unwrap_or_else(|_| older.to_owned())
}
