//! Keys whose channels are made alike before they are quantized, and queries that make up for it.

mod channels;
mod statistics;

use half::bf16;
use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3, Axis};

use crate::KvCacheError;
use crate::affine::MOST_F32;
use crate::memory::zeros;
use channels::Channels;
pub use statistics::KeyStatistics;

/// The settings of [`KeySmoothing`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SmoothConfig {
    /// How far channels are made alike: from 0, where all factors are 1, to 1, where all channels reach as far.
    pub alpha: f32,
    /// Whether the mean of each channel is taken off first.
    pub means: bool,
}

impl SmoothConfig {
    /// Factors alone, as in `SmoothAttention`. That paper has an `alpha` of 0.5; with means, 0.75 has the smallest error of
    /// attention over `int8` pages on the data that this crate is compared with transformers on.
    #[must_use]
    pub fn new(alpha: f32) -> Self {
        Self {
            alpha,
            means: false,
        }
    }

    /// With means that are taken off first, as in `SageAttention`; with an `alpha` of 0 it is that alone.
    #[must_use]
    pub fn with_means(mut self) -> Self {
        self.means = true;
        self
    }

    fn check(self) -> Result<(), KvCacheError> {
        if (0.0..=1.0).contains(&self.alpha) {
            return Ok(());
        }
        let bits = self.alpha.to_bits();
        Err(KvCacheError::SmoothAlpha { bits })
    }
}

/// What is done to the keys of a sequence before they are quantized, and to the queries that read them.
///
/// ```text
/// k' = (k - μ) / λ        μ = mean_t k_t, or 0         for each channel: a feature of a head
/// q' = q λ                λ = (max_t |k_t - μ|)^alpha  1 where that is 0
///
/// q' · k' = q · k - q · μ
/// ```
///
/// Stores like [`Int8Pages`](crate::paged::Int8Pages) have one scale for all features of a token. A channel far from zero
/// makes it large, and the others lose their digits. Divided by factors, all channels reach about as far. The scores stay what they were. With
/// means, all scores of a query change by the same number `q · μ`, which a softmax does not notice.
///
/// Factors and means are found once, from the keys of a prompt or from those of many texts ([`KeyStatistics`]), and are then the same for all
/// tokens of a sequence and for all sequences that share its pages: keys that lie in a cache cannot change with them. Later keys may reach further than
/// those that were seen; they are only quantized less well.
///
/// - Smooth keys and queries **after** their rotation. The paper multiplies the factors into the weights of the
///   projections instead, before the rotation, and so needs equal factors for the two features of a plane.
/// - With means, scores must not go through anything that is not a softmax alone: no softcap, no learned sink. Log-sum-exps are
///   off by `q · μ`, so that only pieces of the same sequence can be merged.
/// - Values need nothing of this: their channels are alike.
///
/// # Shapes
///
/// - keys: `[kv_heads, seq, head_dim]`
/// - queries: `[heads, seq, head_dim]`; query heads `g h .. g (h + 1)` read key-value head `h`, `g = heads / kv_heads`
///
/// # Precision
///
/// `μ` and `λ` are rounded to `bf16`, and `λ` is held between `2^-32` and `2^32`: the scores do not depend on which numbers they
/// are. A smoothed key is rounded once, and so is a smoothed query: a score is off by at most
/// `2^-23 Σ_d |q_d| |k_d - μ_d|`, if nothing is subnormal.
///
/// # Example
///
/// ```
/// use llm_kvcache::smooth::{KeySmoothing, SmoothConfig};
/// use ndarray::array;
///
/// // One head of two features, one of them far from zero.
/// let k = array![[[30.0, 0.5], [34.0, -0.25], [32.0, 0.5]]];
/// let q = array![[[1.0, 2.0]], [[0.5, -4.0]]]; // two query heads
///
/// let factors = KeySmoothing::of_keys(&k, &SmoothConfig::new(1.0))?;
/// assert_eq!(factors.factors(), array![[34.0, 0.5]]);
/// let smooth = factors.smooth_keys(&k)?;
/// assert_eq!(smooth[[0, 1, 0]], 1.0);
/// assert_eq!(factors.smooth_queries(&q)?, array![[[34.0, 1.0]], [[17.0, -2.0]]]);
///
/// let both = KeySmoothing::of_keys(&k, &SmoothConfig::new(1.0).with_means())?;
/// assert_eq!(both.means(), Some(array![[32.0, 0.25]]));
/// assert_eq!(both.smooth_keys(&k)?, array![[[-1.0, 0.5], [1.0, -1.0], [0.0, 0.5]]]);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: factors: Lin et al., `QServe`, arXiv:2405.04532v2, section 4.2 (`SmoothAttention`); means: Zhang et al., `SageAttention`,
/// arXiv:2410.02367v1, section 4.2 (smoothing of K).
#[doc(alias = "SmoothAttention")]
#[doc(alias = "SageAttention")]
#[derive(Clone, Debug, PartialEq)]
pub struct KeySmoothing {
    means: Option<Array2<bf16>>, // [kv_heads, head_dim]
    factors: Array2<bf16>,       // [kv_heads, head_dim]
}

/// The least and the largest factor, `2^-32` and `2^32`.
const LEAST: f64 = 1.0 / MOST;
const MOST: f64 = 4_294_967_296.0;

impl KeySmoothing {
    /// Means and factors of the keys of some tokens.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides; without tokens all factors are 1 and all means 0
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::SmoothAlpha`] if `alpha` is not from 0 to 1.
    /// - [`KvCacheError::NotQuantizable`] for NaN and numbers above `3.4e38` in absolute value.
    /// - [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn of_keys(k: &ArrayRef3<f32>, config: &SmoothConfig) -> Result<Self, KvCacheError> {
        config.check()?;
        let (n_kv_heads, _, head_dim) = k.dim();
        let mut statistics = KeyStatistics::new(n_kv_heads, head_dim)?;
        statistics.observe(k)?;
        Self::of_statistics(&statistics, config)
    }

    /// Means and factors of the keys that were seen.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::SmoothAlpha`] if `alpha` is not from 0 to 1, and [`KvCacheError::Allocation`].
    pub fn of_statistics(
        statistics: &KeyStatistics,
        config: &SmoothConfig,
    ) -> Result<Self, KvCacheError> {
        config.check()?;
        let channels = statistics.channels();
        let mut means = channels.filled(bf16::ZERO)?;
        let mut factors = channels.filled(bf16::ONE)?;
        for ((head, feature), factor) in factors.indexed_iter_mut() {
            let at = [head, feature];
            if config.means {
                means[at] = statistics.mean(at);
            }
            let reach = statistics.reach(at, means[at].to_f64());
            if reach > 0.0 {
                let power = reach.powf(config.alpha.into());
                *factor = bf16::from_f64(power.clamp(LEAST, MOST));
            }
        }
        let means = config.means.then_some(means);
        Ok(Self { means, factors })
    }

    /// Means and factors that were found elsewhere, rounded to `bf16`.
    ///
    /// # Shapes
    ///
    /// - `means`, `factors`: `[kv_heads, head_dim]`
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::ChannelShape`] if there are not as many means as factors.
    /// - [`KvCacheError::ChannelNumber`] for a factor that is not from `2^-32` to `2^32`, and for a mean that is not finite in `bf16`.
    /// - [`KvCacheError::Allocation`] if the allocator refuses.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_kvcache::smooth::KeySmoothing;
    /// use ndarray::array;
    ///
    /// let smoothing = KeySmoothing::from_parts(None, &array![[8.0, 1.0]])?; // one head
    /// assert_eq!(smoothing.smooth_keys(&array![[[24.0, 1.0]]])?, array![[[3.0, 1.0]]]);
    /// assert!(KeySmoothing::from_parts(None, &array![[0.0, 1.0]]).is_err());
    /// # Ok::<(), llm_kvcache::KvCacheError>(())
    /// ```
    pub fn from_parts(
        means: Option<&ArrayRef2<f32>>,
        factors: &ArrayRef2<f32>,
    ) -> Result<Self, KvCacheError> {
        let channels = Channels::of(factors);
        let round = |name, x: &ArrayRef2<f32>, rule, holds: fn(f64) -> bool| {
            channels.check(name, Channels::of(x))?;
            let mut rounded = channels.filled(bf16::ZERO)?;
            for ((head, feature), &x) in x.indexed_iter() {
                let y = bf16::from_f32(x);
                if !(holds(x.into()) && holds(y.into())) {
                    return Err(KvCacheError::ChannelNumber {
                        name,
                        rule,
                        head,
                        feature,
                        bits: x.to_bits(),
                    });
                }
                rounded[[head, feature]] = y;
            }
            Ok(rounded)
        };
        let is_factor = |x| (LEAST..=MOST).contains(&x);
        let factors = round("factors", factors, "from 2^-32 to 2^32", is_factor)?;
        let means = means
            .map(|means| round("means", means, "finite in bf16", f64::is_finite))
            .transpose()?;
        Ok(Self { means, factors })
    }

    /// Keys as they are to be stored: `(k - μ) / λ`.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides
    /// - returns: the same
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::KeyShape`].
    /// - [`KvCacheError::Smoothed`] for NaN, and for what would be above `3.4e38` in absolute value, which no store of integers takes:
    ///   never for keys that means and factors were found from, if they are at most `1.5e38` in absolute value.
    /// - [`KvCacheError::Size`] and [`KvCacheError::Allocation`] for the result.
    pub fn smooth_keys(&self, k: &ArrayRef3<f32>) -> Result<Array3<f32>, KvCacheError> {
        self.channels().check_keys(k)?;
        let mut new = copied(k)?;
        self.smooth_keys_inplace(&mut new)?;
        Ok(new)
    }

    /// [`smooth_keys`](Self::smooth_keys) in place.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::KeyShape`] and [`KvCacheError::Smoothed`], as there; `k` is then unchanged.
    pub fn smooth_keys_inplace(&self, k: &mut ArrayRef3<f32>) -> Result<(), KvCacheError> {
        self.channels().check_keys(k)?;
        self.change("k", k, 1, |x, mean, factor| (x - mean) / factor)
    }

    /// Queries that read smoothed keys: `q λ`.
    ///
    /// # Shapes
    ///
    /// - `q`: `[heads, seq, head_dim]`, any strides; `heads` is a multiple of `kv_heads`
    /// - returns: the same
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::QueryShape`].
    /// - [`KvCacheError::Smoothed`] for NaN, and for what would be above `3.4e38` in absolute value.
    /// - [`KvCacheError::Size`] and [`KvCacheError::Allocation`] for the result.
    pub fn smooth_queries(&self, q: &ArrayRef3<f32>) -> Result<Array3<f32>, KvCacheError> {
        self.channels().queries_per_kv(q)?;
        let mut new = copied(q)?;
        self.smooth_queries_inplace(&mut new)?;
        Ok(new)
    }

    /// [`smooth_queries`](Self::smooth_queries) in place.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::QueryShape`] and [`KvCacheError::Smoothed`], as there; `q` is then unchanged.
    pub fn smooth_queries_inplace(&self, q: &mut ArrayRef3<f32>) -> Result<(), KvCacheError> {
        let queries_per_kv = self.channels().queries_per_kv(q)?;
        self.change("q", q, queries_per_kv, |x, _, factor| x * factor)
    }

    /// Keys as they were before they were smoothed: `k' λ + μ`.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides
    /// - returns: the same
    ///
    /// # Errors
    ///
    /// As [`smooth_keys`](Self::smooth_keys).
    ///
    /// # Precision
    ///
    /// A key comes back within `2^-23 (|k - μ| + |k|)`, if nothing is subnormal.
    pub fn restore_keys(&self, k: &ArrayRef3<f32>) -> Result<Array3<f32>, KvCacheError> {
        self.channels().check_keys(k)?;
        let mut new = copied(k)?;
        self.change("k", &mut new, 1, |x, mean, factor| x * factor + mean)?;
        Ok(new)
    }

    /// What is taken off the keys, `[kv_heads, head_dim]`, if anything is.
    #[must_use]
    pub fn means(&self) -> Option<Array2<f32>> {
        let means = self.means.as_ref()?;
        Some(means.mapv(bf16::to_f32))
    }

    /// What keys are divided by, and queries multiplied with: `[kv_heads, head_dim]`.
    #[must_use]
    pub fn factors(&self) -> Array2<f32> {
        self.factors.mapv(bf16::to_f32)
    }

    /// Bytes of means and factors.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let means = self.means.as_ref().map_or(0, Array2::len);
        (means + self.factors.len()) * size_of::<bf16>()
    }

    fn channels(&self) -> Channels {
        Channels::of(&self.factors)
    }

    /// Replaces all numbers by what they become with the mean and the factor of their channel, or none.
    fn change(
        &self,
        name: &'static str,
        x: &mut ArrayRef3<f32>,
        heads_per_row: usize,
        new: impl Fn(f64, f64, f64) -> f64,
    ) -> Result<(), KvCacheError> {
        let new = |x: f32, [head, feature]: [usize; 2]| {
            let at = [head / heads_per_row, feature];
            let mean = (self.means.as_ref()).map_or(0.0, |means| means[at].to_f64());
            new(x.into(), mean, self.factors[at].to_f64()) as f32
        };
        for ((head, token, feature), &x) in x.indexed_iter() {
            if !(new(x, [head, feature]).abs() <= MOST_F32) {
                return Err(KvCacheError::Smoothed {
                    name,
                    head,
                    token,
                    feature,
                });
            }
        }
        for ((head, _, feature), x) in x.indexed_iter_mut() {
            *x = new(*x, [head, feature]);
        }
        Ok(())
    }
}

/// A copy, or the error.
fn copied(x: &ArrayRef3<f32>) -> Result<Array3<f32>, KvCacheError> {
    let (heads, seq, features) = x.dim();
    let mut new = zeros([1, heads, seq, features])?.remove_axis(Axis(0));
    new.assign(x);
    Ok(new)
}
