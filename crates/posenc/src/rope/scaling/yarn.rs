//! YaRN, as transformers and as llama.cpp compute it.

use ndarray::Array1;

use super::{at_least, positive};
use crate::PosencError;
use crate::rope::RopeConfig;

/// The settings of YaRN.
///
/// With `d` = `rotary_dim`, `w_i` the plain frequency of plane `i`, `f` = factor, `L` = original length:
///
/// ```text
/// dim(β)     = d ln(L / (2 π β)) / (2 ln base)     the plane that turns β times in L tokens
/// low, high  = floor dim(beta_fast), ceil dim(beta_slow), at least 0 and at most d - 1
/// ramp_i     = (i - low) / (high - low), clamped to 0..1
/// inv_freq_i = ramp_i w_i / f + (1 - ramp_i) w_i
/// ```
///
/// Two programs, two dialects: see [`YarnDialect`].
///
/// Source: Peng et al., YaRN, arXiv:2309.00071v2, section 3; `rope_yarn` of ggml for the ramp over planes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct YarnConfig {
    /// How many times longer sequences become. See [`length_factor`](super::length_factor).
    pub factor: f64,
    /// Length that the model was trained on first.
    pub original_max_position_embeddings: usize,
    /// Planes that turn more often than this in the original length are kept; 32 unless set.
    pub beta_fast: f64,
    /// Planes that turn less often than this are divided by the factor; 1 unless set.
    pub beta_slow: f64,
    /// Whose rounding, ramp and attention factor.
    pub dialect: YarnDialect,
}

/// Where implementations of YaRN differ.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum YarnDialect {
    /// `_compute_yarn_parameters` of transformers 5.23.
    ///
    /// Where `low = high`, the ramp is 0.001 wide. Where all planes turn less than `beta_slow` times in the original length,
    /// or all more than `beta_fast` times, the clamps leave `high` below `low`, and the ramp
    /// is upside down: in the first case all are kept, in the second all divided, the opposite of what YaRN is for.
    HuggingFace {
        /// Whether `low` and `high` are rounded to whole planes; the default there, but not for GPT-OSS.
        truncate: bool,
        /// The factor on cosines and sines.
        attention: YarnAttention,
    },
    /// `rope_yarn` of ggml, as llama.cpp calls it.
    ///
    /// `low` and `high` are always rounded. The ramp is at least 0.001 wide, also where `high` is below `low`: planes up
    /// to `low` are kept, the rest divided. The attention factor is
    /// `attn_factor (1 + 0.1 ln factor)`, also for factors below 1, and `attn_factor` where `ext_factor` is 0.
    LlamaCpp {
        /// How much of the kept frequencies is mixed in: 1 for YaRN, 0 for linear scaling.
        ext_factor: f64,
        /// `--yarn-attn-factor`; 1 unless set.
        attn_factor: f64,
    },
}

/// The attention factor of YaRN in transformers.
///
/// With `g(m) = 0.1 m ln factor + 1`, or 1 where `factor` is at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum YarnAttention {
    /// `g(1)`: neither `attention_factor` nor both of `mscale` and `mscale_all_dim` are there (zero counts as absent).
    Recommended,
    /// `attention_factor`, as the configuration has it.
    Given(f64),
    /// `g(mscale) / g(mscale_all_dim)`: `DeepSeek`.
    Mscale {
        /// Numerator.
        mscale: f64,
        /// Denominator.
        mscale_all_dim: f64,
    },
}

impl YarnConfig {
    /// What transformers does where a configuration has just these two numbers: `truncate`, `Recommended`.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeScaling, YarnConfig};
    ///
    /// let config = RopeConfig::new(128, RopePairing::HalfSplit).with_base(1e6);
    /// let plain = rope::inv_freq(&config)?;
    /// let yarn = RopeScaling::Yarn(YarnConfig::hugging_face(4.0, 32_768)); // Qwen 2.5
    /// let scaled = rope::frequencies(&config, &yarn, None)?;
    /// assert_eq!(scaled.inv_freq[0], plain[0]); // fast planes are kept
    /// assert_eq!(scaled.inv_freq[63], plain[63] / 4.0); // slow ones are divided
    /// assert_eq!(scaled.attention_factor, 0.1 * 4_f64.ln() + 1.0);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    #[must_use]
    pub const fn hugging_face(factor: f64, original_max_position_embeddings: usize) -> Self {
        Self {
            factor,
            original_max_position_embeddings,
            beta_fast: 32.0,
            beta_slow: 1.0,
            dialect: YarnDialect::HuggingFace {
                truncate: true,
                attention: YarnAttention::Recommended,
            },
        }
    }

    /// What llama.cpp does with `--rope-scaling yarn`: both of its factors are 1.
    #[must_use]
    pub const fn llama_cpp(factor: f64, original_max_position_embeddings: usize) -> Self {
        Self {
            factor,
            original_max_position_embeddings,
            beta_fast: 32.0,
            beta_slow: 1.0,
            dialect: YarnDialect::LlamaCpp {
                ext_factor: 1.0,
                attn_factor: 1.0,
            },
        }
    }

    /// Sets [`beta_fast`](Self::beta_fast) and [`beta_slow`](Self::beta_slow).
    #[must_use]
    pub const fn with_betas(mut self, beta_fast: f64, beta_slow: f64) -> Self {
        self.beta_fast = beta_fast;
        self.beta_slow = beta_slow;
        self
    }

    /// Sets the [`dialect`](Self::dialect).
    #[must_use]
    pub const fn with_dialect(mut self, dialect: YarnDialect) -> Self {
        self.dialect = dialect;
        self
    }

    pub(super) fn frequencies(
        &self,
        config: &RopeConfig,
        plain: Array1<f64>,
    ) -> Result<(Array1<f64>, f64), PosencError> {
        let factor = positive("factor", self.factor)?;
        let (low, high) = self.bounds(config)?;
        let attention_factor = self.attention_factor(factor)?;
        let inv_freq = plain.iter().enumerate().map(|(i, w)| {
            let kept = 1.0 - self.ramp(i as f64, low, high);
            let kept = match self.dialect {
                YarnDialect::HuggingFace { .. } => kept,
                YarnDialect::LlamaCpp { ext_factor, .. } => kept * ext_factor,
            };
            w / factor * (1.0 - kept) + w * kept
        });
        Ok((inv_freq.collect(), attention_factor))
    }

    /// The planes where the ramp begins and ends.
    fn bounds(&self, config: &RopeConfig) -> Result<(f64, f64), PosencError> {
        let beta_fast = positive("beta_fast", self.beta_fast)?;
        let beta_slow = positive("beta_slow", self.beta_slow)?;
        if beta_fast < beta_slow {
            return Err(PosencError::ScalingOrder {
                relation: "at most",
                low: "beta_slow",
                low_value: beta_slow,
                high: "beta_fast",
                high_value: beta_fast,
            });
        }
        let name = "original_max_position_embeddings";
        let original = at_least(name, self.original_max_position_embeddings, 1)?;
        let d = config.rotary_dim as f64;
        let plane = |turns: f64| {
            d * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * config.base.ln())
        };
        let (low, high) = (plane(beta_fast), plane(beta_slow));
        let (low, high) = match self.dialect {
            YarnDialect::HuggingFace {
                truncate: false, ..
            } => (low, high),
            _ => (low.floor(), high.ceil()),
        };
        Ok((low.max(0.0), high.min(d - 1.0)))
    }

    fn ramp(&self, plane: f64, low: f64, high: f64) -> f64 {
        let width = match self.dialect {
            YarnDialect::HuggingFace { .. } if low == high => 0.001,
            YarnDialect::HuggingFace { .. } => high - low,
            YarnDialect::LlamaCpp { .. } => (high - low).max(0.001),
        };
        ((plane - low) / width).clamp(0.0, 1.0)
    }

    fn attention_factor(&self, factor: f64) -> Result<f64, PosencError> {
        let g = |mscale: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * mscale * factor.ln() + 1.0
            }
        };
        match self.dialect {
            YarnDialect::HuggingFace { attention, .. } => {
                match attention {
                    YarnAttention::Recommended => Ok(g(1.0)),
                    YarnAttention::Given(given) => positive("attention_factor", given),
                    YarnAttention::Mscale {
                        mscale,
                        mscale_all_dim,
                    } => Ok(g(positive("mscale", mscale)?)
                        / g(positive("mscale_all_dim", mscale_all_dim)?)),
                }
            }
            YarnDialect::LlamaCpp {
                ext_factor,
                attn_factor,
            } => {
                if !(0.0..=1.0).contains(&ext_factor) {
                    return Err(PosencError::YarnExtFactor { got: ext_factor });
                }
                let attn_factor = positive("attn_factor", attn_factor)?;
                if ext_factor == 0.0 {
                    return Ok(attn_factor);
                }
                Ok(attn_factor * (1.0 + 0.1 * factor.ln()))
            }
        }
    }
}
