//! The shape of what is known of channels, and what has to fit it.

use ndarray::{Array2, ArrayRef2, ArrayRef3, Axis};
use num_traits::Zero;

use crate::KvCacheError;
use crate::memory::zeros;

/// The features of all heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
}

impl Channels {
    /// Those of an array `[kv_heads, head_dim]`.
    pub(super) fn of<T>(array: &ArrayRef2<T>) -> Self {
        let (n_kv_heads, head_dim) = array.dim();
        Self {
            n_kv_heads,
            head_dim,
        }
    }

    /// An array with one number for each, or the error.
    pub(super) fn filled<T: Clone + Zero>(self, x: T) -> Result<Array2<T>, KvCacheError> {
        let axes = [1, 1, self.n_kv_heads, self.head_dim];
        let mut array = zeros(axes)?;
        array.fill(x);
        Ok(array.remove_axis(Axis(0)).remove_axis(Axis(0)))
    }

    /// Refuses others.
    pub(super) fn check(self, name: &'static str, other: Self) -> Result<(), KvCacheError> {
        if self == other {
            return Ok(());
        }
        let axes = |channels: Self| [channels.n_kv_heads, channels.head_dim];
        Err(KvCacheError::ChannelShape {
            name,
            expected: axes(self),
            got: axes(other),
        })
    }

    /// Refuses keys of other heads or features.
    pub(super) fn check_keys(self, k: &ArrayRef3<f32>) -> Result<(), KvCacheError> {
        let Self {
            n_kv_heads,
            head_dim,
        } = self;
        let (heads, _, features) = k.dim();
        if heads == n_kv_heads && features == head_dim {
            return Ok(());
        }
        Err(KvCacheError::KeyShape {
            n_kv_heads,
            head_dim,
            got: k.dim().into(),
        })
    }

    /// How many query heads share the keys of a head.
    pub(super) fn queries_per_kv(self, q: &ArrayRef3<f32>) -> Result<usize, KvCacheError> {
        let Self {
            n_kv_heads,
            head_dim,
        } = self;
        let (heads, _, features) = q.dim();
        if heads.is_multiple_of(n_kv_heads) && features == head_dim {
            return Ok(heads.checked_div(n_kv_heads).unwrap_or(0));
        }
        Err(KvCacheError::QueryShape {
            n_kv_heads,
            head_dim,
            got: q.dim().into(),
        })
    }
}
