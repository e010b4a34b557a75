//! What attention is told besides its arrays.

/// Which diagonal a causal mask follows when there are more keys than queries, or fewer.
///
/// With as many keys as queries both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CausalAlignment {
    /// Query `i` sees the keys `j <= i`: `is_causal=True` of torch's
    /// `scaled_dot_product_attention`, `causal_upper_left`.
    TopLeft,
    /// Query `i` sees the keys `j <= i + kv_seq - seq`, so the last query sees all:
    /// FlashAttention from 2.1 on, MLX, torch's `causal_lower_right`. This is the one
    /// for queries that follow a cached prefix.
    BottomRight,
}

/// Which keys a query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mask {
    /// Every query sees every key.
    Full,
    /// A query sees the keys up to its own position.
    Causal(CausalAlignment),
}

/// The settings of attention.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttentionConfig {
    /// Which keys a query may see.
    pub mask: Mask,
    /// What scores are multiplied with; `None` is `1 / sqrt(head_dim)`.
    #[doc(alias = "softmax_scale")]
    pub scale: Option<f64>,
    /// Queries that are worked on together. Changes speed, and results by rounding only.
    pub query_tile: usize,
    /// Keys that are worked on together. Changes speed, and results by rounding only.
    pub key_tile: usize,
}

impl AttentionConfig {
    /// The default scale, `1 / sqrt(head_dim)`, and tiles of 64 queries by 64 keys.
    #[must_use]
    pub const fn new(mask: Mask) -> Self {
        Self {
            mask,
            scale: None,
            query_tile: 64,
            key_tile: 64,
        }
    }

    /// Sets the [`scale`](Self::scale).
    #[must_use]
    pub const fn with_scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Sets the [`query_tile`](Self::query_tile) and the [`key_tile`](Self::key_tile).
    #[must_use]
    pub const fn with_tile(mut self, query_tile: usize, key_tile: usize) -> Self {
        self.query_tile = query_tile;
        self.key_tile = key_tile;
        self
    }
}
