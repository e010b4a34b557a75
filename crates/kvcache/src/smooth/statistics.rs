//! What must be known of keys to smooth them: each channel's range and sum.

use half::bf16;
use ndarray::{Array2, ArrayRef3, Axis};

use super::channels::Channels;
use crate::KvCacheError;
use crate::affine::check;
use crate::error::Largest;

/// The least and the largest number of each channel of keys, and their sum; collected chunk by chunk.
///
/// What comes in several chunks counts as if it came in one. So does what others collected, but for the rounding of a
/// sum in `f64`: the ranges, and factors without means, are the same to the last bit.
///
/// # Shapes
///
/// - keys: `[kv_heads, seq, head_dim]`; a channel is a feature of a head
///
/// # Example
///
/// ```
/// use llm_kvcache::smooth::{KeySmoothing, KeyStatistics, SmoothConfig};
/// use ndarray::array;
///
/// let mut seen = KeyStatistics::new(1, 2)?; // one head of two features
/// seen.observe(&array![[[1.0, -8.0], [1.0, 2.0]]])?;
/// seen.observe(&array![[[-2.0, 4.0]]])?;
/// assert_eq!(seen.tokens(), 3);
/// let smoothing = KeySmoothing::of_statistics(&seen, &SmoothConfig::new(1.0))?;
/// assert_eq!(smoothing.factors(), array![[2.0, 8.0]]); // the largest magnitudes
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct KeyStatistics {
    least: Array2<f32>, // [kv_heads, head_dim], infinity without tokens
    most: Array2<f32>,  // [kv_heads, head_dim], minus infinity without tokens
    sum: Array2<f64>,   // [kv_heads, head_dim]
    tokens: u64,
}

impl KeyStatistics {
    /// Those of no tokens.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Size`] if the product of the axes overflows, [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn new(n_kv_heads: usize, head_dim: usize) -> Result<Self, KvCacheError> {
        let channels = Channels {
            n_kv_heads,
            head_dim,
        };
        Ok(Self {
            least: channels.filled(f32::INFINITY)?,
            most: channels.filled(f32::NEG_INFINITY)?,
            sum: channels.filled(0.0)?,
            tokens: 0,
        })
    }

    /// Adds the keys of more tokens.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    ///
    /// # Errors
    ///
    /// [`KvCacheError::KeyShape`], and [`KvCacheError::NotQuantizable`] for NaN and numbers above `3.4e38` in absolute value:
    /// then nothing is added.
    pub fn observe(&mut self, k: &ArrayRef3<f32>) -> Result<(), KvCacheError> {
        self.channels().check_keys(k)?;
        check("k", k.view(), Largest::F32)?;
        // One by one, and so none for tokens without features, however many.
        for ((head, _, feature), &x) in k.indexed_iter() {
            let at = [head, feature];
            self.least[at] = self.least[at].min(x);
            self.most[at] = self.most[at].max(x);
            self.sum[at] += f64::from(x);
        }
        self.tokens = self.tokens.saturating_add(k.len_of(Axis(1)) as u64);
        Ok(())
    }

    /// Adds what was collected of other tokens.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::ChannelShape`] if those keys had other heads or features.
    pub fn merge(&mut self, other: &Self) -> Result<(), KvCacheError> {
        self.channels().check("statistics", other.channels())?;
        self.least.zip_mut_with(&other.least, |a, &b| *a = a.min(b));
        self.most.zip_mut_with(&other.most, |a, &b| *a = a.max(b));
        self.sum += &other.sum;
        self.tokens = self.tokens.saturating_add(other.tokens);
        Ok(())
    }

    /// Tokens that were seen.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(super) fn channels(&self) -> Channels {
        Channels::of(&self.least)
    }

    /// The mean of a channel, rounded; 0 without tokens.
    pub(super) fn mean(&self, at: [usize; 2]) -> bf16 {
        if self.tokens == 0 {
            return bf16::ZERO;
        }
        let most = bf16::MAX.to_f64(); // below the largest key
        bf16::from_f64((self.sum[at] / self.tokens as f64).clamp(-most, most))
    }

    /// The largest distance of a channel's numbers to one number; 0 without tokens.
    pub(super) fn reach(&self, at: [usize; 2], from: f64) -> f64 {
        if self.tokens == 0 {
            return 0.0;
        }
        let [least, most] = [self.least[at], self.most[at]].map(f64::from);
        (most - from).max(from - least)
    }
}
