//! The settings of a ring, on the CPU and on a device.

use crate::KvCacheError;

/// The sizes of a [`RingCache`](super::RingCache), and of the window of a [`SinkCache`](crate::SinkCache).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingConfig {
    /// Sequences.
    pub batch: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Keys that a query sees, its own included; at least 1.
    pub window: usize,
    /// Tokens that are held beyond the window.
    pub slack: usize,
    /// Features of a key.
    pub head_dim: usize,
    /// Features of a value.
    pub value_dim: usize,
}

impl RingConfig {
    /// A ring without slack, whose values have as many features as its keys.
    #[must_use]
    pub fn new(batch: usize, n_kv_heads: usize, window: usize, head_dim: usize) -> Self {
        Self {
            batch,
            n_kv_heads,
            window,
            slack: 0,
            head_dim,
            value_dim: head_dim,
        }
    }

    /// With tokens beyond the window, so that one more than that can be taken back, or come at once.
    #[must_use]
    pub fn with_slack(mut self, slack: usize) -> Self {
        self.slack = slack;
        self
    }

    /// With another number of features in a value.
    #[must_use]
    pub fn with_value_dim(mut self, value_dim: usize) -> Self {
        self.value_dim = value_dim;
        self
    }

    /// Tokens of a row, as many as can be counted; what is refused later if there is no memory for them.
    pub(crate) fn capacity(&self) -> Result<usize, KvCacheError> {
        if self.window == 0 {
            return Err(KvCacheError::Window);
        }
        Ok(self.window.saturating_add(self.slack))
    }
}
