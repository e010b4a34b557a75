//! Bytes of each store, before one is made.

use super::checked;
use crate::KvCacheError;

/// How a token's keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// Numbers of so many bytes: 4 for `f32`, 2 for `f16` and `bf16`.
    Float {
        /// Bytes of a number.
        element_bytes: usize,
    },
    /// [`Int8Pages`](crate::paged::Int8Pages): a byte a number, and an `f32` for each key and value of a head.
    Int8,
    /// [`Int4Pages`](crate::paged::Int4Pages): half a byte a number, and two `f16` for each key and value of a head.
    Int4,
    /// [`KiviCache`](crate::KiviCache), for tokens that are quantized: two `f16` for each group.
    Kivi {
        /// Bits of a code.
        bits: usize,
        /// Numbers that share a step.
        group: usize,
    },
}

/// Which tokens of a sequence are kept, and in what room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Room {
    /// All, in room for `capacity` tokens ([`ContiguousCache`](crate::ContiguousCache)).
    Contiguous {
        /// Tokens for which there is room.
        capacity: usize,
    },
    /// The newest, in a ring of `window + slack` ([`RingCache`](crate::RingCache)).
    Ring {
        /// Keys that a query sees.
        window: usize,
        /// Tokens that can be taken back.
        slack: usize,
    },
    /// The first and the newest ([`SinkCache`](crate::SinkCache)).
    Sinks {
        /// First tokens that stay.
        n_sinks: usize,
        /// Keys behind them that a query sees.
        window: usize,
        /// Tokens that can be taken back.
        slack: usize,
    },
    /// All, in whole pages ([`PagedCache`](crate::PagedCache)).
    Paged {
        /// Tokens of a page.
        page_size: usize,
    },
}

impl Room {
    /// Tokens for which a sequence of `len` takes room.
    #[must_use]
    pub fn tokens(self, len: usize) -> usize {
        match self {
            Self::Contiguous { capacity } => capacity,
            Self::Ring { window, slack } => window.saturating_add(slack),
            Self::Sinks {
                n_sinks,
                window,
                slack,
            } => n_sinks.saturating_add(window).saturating_add(slack),
            Self::Paged { page_size } => {
                let page_size = page_size.max(1);
                len.div_ceil(page_size).saturating_mul(page_size)
            }
        }
    }
}

/// Bytes of a token in all layers.
///
/// ```text
/// Float: n_layers n_kv_heads (head_dim + value_dim) element_bytes
/// Int8:  n_layers n_kv_heads (head_dim + value_dim + 8)
/// Int4:  n_layers n_kv_heads (⌈head_dim / 2⌉ + ⌈value_dim / 2⌉ + 8)
/// Kivi:  n_layers n_kv_heads ((head_dim (bits group / 8 + 4)) / group + ⌈value_dim bits / 8⌉ + 4 ⌈value_dim / group⌉),
///        rounded up: the mean over the tokens of a group
/// ```
///
/// # Errors
///
/// - [`KvCacheError::ByteCount`] if the count is 2^64 or more.
/// - [`KvCacheError::Setting`] if `group` is 0.
///
/// # Example
///
/// ```
/// use llm_kvcache::calculator::{Storage, storage_bytes_per_token};
///
/// // Llama 3 8B: 32 layers, 8 key-value heads of 128.
/// let bytes = |storage| storage_bytes_per_token(32, 8, [128, 128], storage);
/// assert_eq!(bytes(Storage::Float { element_bytes: 2 })?, 131_072);
/// assert_eq!(bytes(Storage::Int8)?, 67_584);
/// assert_eq!(bytes(Storage::Int4)?, 34_816);
/// assert_eq!(bytes(Storage::Kivi { bits: 2, group: 32 })?, 24_576);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: the layouts of this crate's stores; their `bytes()` agree in a test.
pub fn storage_bytes_per_token(
    n_layers: usize,
    n_kv_heads: usize,
    [head_dim, value_dim]: [usize; 2],
    storage: Storage,
) -> Result<u64, KvCacheError> {
    let (k, v) = (head_dim as u128, value_dim as u128);
    let of_head = match storage {
        Storage::Float { element_bytes } => (k + v).checked_mul(element_bytes as u128),
        Storage::Int8 => Some(k + v + 8),
        Storage::Int4 => Some(k.div_ceil(2) + v.div_ceil(2) + 8),
        Storage::Kivi { group: 0, .. } => {
            return Err(KvCacheError::Setting {
                name: "group",
                rule: "positive",
                got: 0,
            });
        }
        Storage::Kivi { bits, group } => {
            let (bits, group) = (bits as u128, group as u128);
            let channel = (bits * group).div_ceil(8) + 4;
            let keys = k.checked_mul(channel).map(|n| n.div_ceil(group));
            let values = v
                .checked_mul(bits)
                .map(|n| n.div_ceil(8) + 4 * v.div_ceil(group));
            keys.zip(values)
                .and_then(|(keys, values)| keys.checked_add(values))
        }
    };
    let factors = [
        n_layers as u64,
        n_kv_heads as u64,
        head_dim as u64,
        value_dim as u64,
        1,
    ];
    let of_layers = (n_layers as u128).checked_mul(n_kv_heads as u128);
    checked(
        of_head.zip(of_layers).and_then(|(a, b)| a.checked_mul(b)),
        factors,
    )
}

/// Bytes of sequences of `len` tokens each.
///
/// ```text
/// bytes = bytes_per_token * batch * room.tokens(len)
/// ```
///
/// # Errors
///
/// [`KvCacheError::ByteCount`] if the count is 2^64 or more.
///
/// # Example
///
/// ```
/// use llm_kvcache::calculator::{Room, batch_bytes};
///
/// let bytes = |room| batch_bytes(131_072, 8, 1000, room);
/// assert_eq!(bytes(Room::Contiguous { capacity: 8192 })?, 8 << 30); // 8 GiB, mostly empty
/// assert_eq!(bytes(Room::Paged { page_size: 16 })?, 1_056_964_608); // 63 pages each: 0.98 GiB
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: as [`storage_bytes_per_token`].
pub fn batch_bytes(
    bytes_per_token: u64,
    batch: usize,
    len: usize,
    room: Room,
) -> Result<u64, KvCacheError> {
    super::product([bytes_per_token, batch as u64, room.tokens(len) as u64, 1, 1])
}
