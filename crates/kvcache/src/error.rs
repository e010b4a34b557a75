//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
///
/// Whatever the error, the cache is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvCacheError {
    /// The product of the axes does not fit.
    #[error(
        "batch * n_kv_heads * capacity * features * {element_bytes} bytes must be at most {}, got axes [{}, {}, {}, {}]",
        isize::MAX, axes[0], axes[1], axes[2], axes[3]
    )]
    Size {
        /// `[batch, n_kv_heads, capacity, head_dim]` (or `value_dim`), as asked for.
        axes: [usize; 4],
        /// Bytes of one element.
        element_bytes: usize,
    },
    /// A count of bytes does not fit in 64 bits.
    #[error("a count of bytes must be below 2^64, got a product of {factors:?}")]
    ByteCount {
        /// What was to be multiplied; unused places are 1.
        factors: [u64; 5],
    },
    /// The memory could not be had.
    #[error("{bytes} bytes must be available, the allocator refused them")]
    Allocation {
        /// What was asked for.
        bytes: usize,
    },
    /// There is no such sequence.
    #[error("row must be below {batch} (batch), got {row}")]
    Row {
        /// The sequence that was named.
        row: usize,
        /// Sequences in the cache.
        batch: usize,
    },
    /// Keys and values for all rows do not have one entry per row.
    #[error("keys and values must have batch {expected}, got {keys} and {values}")]
    Batch {
        /// Sequences in the cache.
        expected: usize,
        /// First axis of the keys.
        keys: usize,
        /// First axis of the values.
        values: usize,
    },
    /// The keys do not fit the cache.
    #[error("keys must have shape [{n_kv_heads}, seq, {head_dim}], got {got:?}")]
    KeyShape {
        /// Key-value heads of the cache.
        n_kv_heads: usize,
        /// Features of a key.
        head_dim: usize,
        /// Shape of the keys, without the batch.
        got: [usize; 3],
    },
    /// The values do not fit the cache or the keys.
    #[error(
        "values must have shape [{n_kv_heads}, {seq}, {value_dim}] (seq of the keys), got {got:?}"
    )]
    ValueShape {
        /// Key-value heads of the cache.
        n_kv_heads: usize,
        /// Tokens that the keys have.
        seq: usize,
        /// Features of a value.
        value_dim: usize,
        /// Shape of the values, without the batch.
        got: [usize; 3],
    },
    /// The new tokens do not fit behind the old ones.
    #[error("row {row} must have room for {seq} tokens, got {len} of {capacity} (capacity) taken")]
    Full {
        /// The sequence.
        row: usize,
        /// Tokens that it holds.
        len: usize,
        /// Tokens that were to be added.
        seq: usize,
        /// Tokens that it can hold.
        capacity: usize,
    },
    /// A sequence cannot be cropped to more than it holds.
    #[error("the length to crop row {row} to must be at most {len}, got {got}")]
    CropLen {
        /// The sequence.
        row: usize,
        /// Tokens that it holds.
        len: usize,
        /// Tokens that were to remain.
        got: usize,
    },
    /// A reordering does not name one source per row.
    #[error("rows must have length {batch} (batch), got {got}")]
    ReorderLen {
        /// Sequences in the cache.
        batch: usize,
        /// Sources that were named.
        got: usize,
    },
}
