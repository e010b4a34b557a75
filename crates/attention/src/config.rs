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
///
/// All but `Full` count from the position `p` of query `i` among the keys, which the
/// [`CausalAlignment`] sets: `p = i` for `TopLeft`, `p = i + kv_seq - seq` for `BottomRight`. Keys
/// that a mask hides from all queries of a tile are skipped, not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mask {
    /// Every query sees every key.
    Full,
    /// A query sees the keys up to its own position: `j <= p`.
    Causal(CausalAlignment),
    /// A sliding window: `p - left <= j <= p + right`, both ends included.
    ///
    /// So FlashAttention counts (`window_size=(left, right)`, where -1 is our `None`). Windows of
    /// Mistral, Gemma, transformers' `sliding_window` and llama.cpp's `n_swa` count the token
    /// itself: [`Mask::last_keys`].
    Window {
        /// How many keys before its position a query sees; `None`: all.
        left: Option<usize>,
        /// How many keys after its position a query sees; `None`: all.
        right: Option<usize>,
        /// Where the queries stand among the keys.
        alignment: CausalAlignment,
    },
    /// Causal within chunks of `chunk` positions: `j <= p` and `j / chunk = p / chunk`, as in
    /// Llama 4's local layers (transformers' `attention_chunk_size`).
    ChunkedCausal {
        /// Positions in a chunk, at least 1.
        chunk: usize,
        /// Where the queries stand among the keys.
        alignment: CausalAlignment,
    },
    /// A prefix that all see, and causal behind it: `j < prefix` or `j <= p`.
    ///
    /// Raffel et al., T5, arXiv:1910.10683v4, section 3.2.1; GLM, arXiv:2103.10360v2.
    PrefixLm {
        /// How many keys every query sees.
        prefix: usize,
        /// Where the queries stand among the keys.
        alignment: CausalAlignment,
    },
}

impl Mask {
    /// The causal window of `n_keys` keys, the token itself among them: `p - n_keys < j <= p`.
    ///
    /// This is the window of Mistral, Gemma, transformers' `sliding_window` and llama.cpp's
    /// `n_swa`.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_attention::{CausalAlignment::BottomRight, Mask};
    /// use std::num::NonZero;
    ///
    /// let n_keys = NonZero::new(4096).unwrap();
    /// let window = Mask::Window { left: Some(4095), right: Some(0), alignment: BottomRight };
    /// assert_eq!(Mask::last_keys(n_keys, BottomRight), window);
    /// ```
    #[must_use]
    pub const fn last_keys(n_keys: std::num::NonZero<usize>, alignment: CausalAlignment) -> Self {
        Self::Window {
            left: Some(n_keys.get() - 1),
            right: Some(0),
            alignment,
        }
    }
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
    /// Bends scores to `softcap * tanh(score / softcap)`, after the scale and before the mask.
    ///
    /// Gemma 2's `attn_logit_softcapping`; arXiv:2408.00118v3, section 2.
    #[doc(alias = "logits_soft_cap")]
    pub softcap: Option<f64>,
    /// Queries that are worked on together. Changes speed, and results by rounding only.
    pub query_tile: usize,
    /// Keys that are worked on together. Changes speed, and results by rounding only.
    pub key_tile: usize,
}

impl AttentionConfig {
    /// The default scale, `1 / sqrt(head_dim)`, no softcap, and tiles of 128 queries by 128 keys.
    #[must_use]
    pub const fn new(mask: Mask) -> Self {
        Self {
            mask,
            scale: None,
            softcap: None,
            query_tile: 128,
            key_tile: 128,
        }
    }

    /// Sets the [`scale`](Self::scale).
    #[must_use]
    pub const fn with_scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Sets the [`softcap`](Self::softcap).
    #[must_use]
    pub const fn with_softcap(mut self, softcap: f64) -> Self {
        self.softcap = Some(softcap);
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
