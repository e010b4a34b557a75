//! How many bytes a cache takes, before it is made, and what it saves.

mod store;
mod work;

pub use store::{Room, Storage, batch_bytes, storage_bytes_per_token};
pub use work::{ModelSizes, Work, decode_work, pass_work, prefill_work};

use crate::KvCacheError;

/// Bytes that one token adds to the caches of all layers.
///
/// ```text
/// bytes = 2 n_layers n_kv_heads head_dim element_bytes      (2: keys and values)
/// ```
///
/// # Errors
///
/// [`KvCacheError::ByteCount`] if the product is 2^64 or more.
///
/// # Example
///
/// ```
/// use llm_kvcache::calculator::bytes_per_token;
///
/// // LLaMA-2 7B (32 layers, 32 heads of 128) in float16: half a mebibyte.
/// assert_eq!(bytes_per_token(32, 32, 128, 2)?, 512 * 1024);
/// // Llama 3 8B shares each key-value head between 4 query heads: a quarter.
/// assert_eq!(bytes_per_token(32, 8, 128, 2)?, 128 * 1024);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
pub fn bytes_per_token(
    n_layers: usize,
    n_kv_heads: usize,
    head_dim: usize,
    element_bytes: usize,
) -> Result<u64, KvCacheError> {
    product([
        2,
        n_layers as u64,
        n_kv_heads as u64,
        head_dim as u64,
        element_bytes as u64,
    ])
}

/// Bytes of caches with room for `capacity` tokens in each of `batch` sequences.
///
/// ```text
/// bytes = bytes_per_token batch capacity
/// ```
///
/// # Errors
///
/// [`KvCacheError::ByteCount`] if the product is 2^64 or more.
///
/// # Example
///
/// ```
/// use llm_kvcache::calculator::{bytes_per_token, total_bytes};
///
/// let bytes = total_bytes(bytes_per_token(32, 32, 128, 2)?, 1, 4096)?;
/// assert_eq!(bytes, 2 * 1024 * 1024 * 1024); // 2 GiB
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
pub fn total_bytes(
    bytes_per_token: u64,
    batch: usize,
    capacity: usize,
) -> Result<u64, KvCacheError> {
    product([bytes_per_token, batch as u64, capacity as u64, 1, 1])
}

fn product(factors: [u64; 5]) -> Result<u64, KvCacheError> {
    if factors.contains(&0) {
        return Ok(0);
    }
    factors
        .iter()
        .try_fold(1_u64, |product, &factor| product.checked_mul(factor))
        .ok_or(KvCacheError::ByteCount { factors })
}

/// A count that fits in 64 bits, or the error with some of its factors.
fn checked(count: Option<u128>, factors: [u64; 5]) -> Result<u64, KvCacheError> {
    count
        .and_then(|n| u64::try_from(n).ok())
        .ok_or(KvCacheError::ByteCount { factors })
}
