//! The frequencies of every scaling, through wavelengths and by cases.

use std::f64::consts::TAU;

use ndarray::Array1;

use crate::rope::{
    LongRopeConfig, RopeConfig, RopeScaling, YarnAttention, YarnConfig, YarnDialect,
};

/// Frequencies and attention factor of a scaling; nothing is checked.
///
/// # Shapes
///
/// - returns: `[rotary_dim / 2]`, or `[head_dim / 2]` for `Proportional`
///
/// # Panics
///
/// If LongRoPE has fewer factors than planes.
///
/// Source: for each rule as [`frequencies`](crate::rope::frequencies).
#[must_use]
pub fn frequencies(
    config: &RopeConfig,
    scaling: &RopeScaling,
    seq_len: Option<usize>,
) -> (Array1<f64>, f64) {
    let (d, base) = (config.rotary_dim as f64, config.base);
    let planes = 0..config.rotary_dim / 2;
    match scaling {
        RopeScaling::Default => (planes.map(|i| TAU / wavelength(base, d, i)).collect(), 1.0),
        // The frequency of position / factor.
        RopeScaling::Linear { factor } => {
            let longer = planes.map(|i| TAU / (factor * wavelength(base, d, i)));
            (longer.collect(), 1.0)
        }
        RopeScaling::DynamicNtk {
            factor,
            max_position_embeddings,
        } => {
            let max = *max_position_embeddings as f64;
            let length = seq_len.unwrap_or(0).max(*max_position_embeddings) as f64;
            let scale = factor * length / max - (factor - 1.0);
            let base = base * scale.powf(d / (d - 2.0));
            (planes.map(|i| TAU / wavelength(base, d, i)).collect(), 1.0)
        }
        RopeScaling::StaticNtk { alpha } => {
            let base = base * alpha.powf(d / (d - 2.0));
            (planes.map(|i| TAU / wavelength(base, d, i)).collect(), 1.0)
        }
        RopeScaling::Yarn(yarn) => (
            planes.map(|i| yarn_frequency(yarn, base, d, i)).collect(),
            yarn_attention(yarn),
        ),
        RopeScaling::LongRope(long_rope) => {
            let original = long_rope.original_max_position_embeddings;
            let factors = match seq_len {
                Some(length) if length > original => &long_rope.long_factor,
                _ => &long_rope.short_factor,
            };
            let longer = planes.map(|i| TAU / (factors[i] * wavelength(base, d, i)));
            (longer.collect(), long_rope_attention(long_rope))
        }
        RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings,
        } => {
            let original = *original_max_position_embeddings as f64;
            let frequency = |i| {
                let wavelength = wavelength(base, d, i);
                if wavelength < original / high {
                    TAU / wavelength
                } else if wavelength > original / low {
                    TAU / (factor * wavelength)
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * TAU / (factor * wavelength) + smooth * TAU / wavelength
                }
            };
            (planes.map(frequency).collect(), 1.0)
        }
        RopeScaling::Proportional { head_dim, factor } => {
            let frequency = |i| match 2 * i < config.rotary_dim {
                true => TAU / (factor * wavelength(base, *head_dim as f64, i)),
                false => 0.0,
            };
            ((0..head_dim / 2).map(frequency).collect(), 1.0)
        }
    }
}

/// Frequencies and attention factor of each pass: those of the longest sequence since the last that was shorter than
/// the configuration says.
///
/// # Panics
///
/// As [`frequencies`].
///
/// Source: `dynamic_rope_update` of transformers 5.23.
#[must_use]
pub fn update_sequence(
    config: &RopeConfig,
    scaling: &RopeScaling,
    lengths: &[usize],
) -> Vec<(Array1<f64>, f64)> {
    let shortest = match scaling {
        RopeScaling::DynamicNtk {
            max_position_embeddings,
            ..
        } => *max_position_embeddings,
        _ => usize::MAX,
    };
    let longest = |pass: usize| {
        let since = lengths[..=pass].iter().rev();
        let grown = since.take_while(|&&length| length >= shortest).max();
        *grown.unwrap_or(&lengths[pass])
    };
    (0..lengths.len())
        .map(|pass| frequencies(config, scaling, Some(longest(pass))))
        .collect()
}

/// Tokens in which plane `i` of `d / 2` turns once: `2 π base^(2 i / d)`.
fn wavelength(base: f64, d: f64, i: usize) -> f64 {
    TAU * base.powf(2.0 * i as f64 / d)
}

/// YaRN's mixture of two frequencies, by cases.
///
/// Source: Peng et al., YaRN, arXiv:2309.00071v2, section 3, "NTK-by-parts", with a ramp over planes as both libraries have it.
fn yarn_frequency(yarn: &YarnConfig, base: f64, d: f64, i: usize) -> f64 {
    // The (fractional) plane whose wave is the original length over beta.
    let plane = |beta: f64| {
        let original = yarn.original_max_position_embeddings as f64;
        d / 2.0 * (original / beta / TAU).log(base)
    };
    let (low, high) = (plane(yarn.beta_fast), plane(yarn.beta_slow));
    let rounded = (low.floor().max(0.0), high.ceil().min(d - 1.0));
    let i_real = i as f64;
    let (kept, mixed) = match yarn.dialect {
        YarnDialect::HuggingFace { truncate, .. } => {
            let (low, high) = match truncate {
                true => rounded,
                false => (low.max(0.0), high.min(d - 1.0)),
            };
            let kept = if low < high {
                falling(i_real, low, high)
            } else if low == high {
                falling(i_real, low, low + 0.001)
            } else {
                1.0 - falling(i_real, high, low)
            };
            (kept, 1.0)
        }
        YarnDialect::LlamaCpp { ext_factor, .. } => {
            let (low, high) = rounded;
            (falling(i_real, low, high.max(low + 0.001)), ext_factor)
        }
    };
    let extrapolated = TAU / wavelength(base, d, i);
    let interpolated = extrapolated / yarn.factor;
    interpolated + kept * mixed * (extrapolated - interpolated)
}

/// 1 up to `low`, 0 from `high`, a line between.
fn falling(x: f64, low: f64, high: f64) -> f64 {
    if x <= low {
        1.0
    } else if x >= high {
        0.0
    } else {
        (high - x) / (high - low)
    }
}

/// Source: YaRN, arXiv:2309.00071v2, section 3, its scaling of the softmax, and the configurations of `DeepSeek`.
fn yarn_attention(yarn: &YarnConfig) -> f64 {
    let logarithm = yarn.factor.ln();
    let g = |mscale: f64| 1.0 + 0.1 * mscale * logarithm.max(0.0);
    match yarn.dialect {
        YarnDialect::HuggingFace { attention, .. } => match attention {
            YarnAttention::Recommended => g(1.0),
            YarnAttention::Given(given) => given,
            YarnAttention::Mscale {
                mscale,
                mscale_all_dim,
            } => g(mscale) / g(mscale_all_dim),
        },
        YarnDialect::LlamaCpp {
            ext_factor,
            attn_factor,
        } => match ext_factor == 0.0 {
            true => attn_factor,
            false => attn_factor + attn_factor * 0.1 * logarithm,
        },
    }
}

/// Source: Ding et al., LongRoPE, arXiv:2402.13753v1, and the configurations of Phi-3.
fn long_rope_attention(config: &LongRopeConfig) -> f64 {
    let original = config.original_max_position_embeddings as f64;
    match config.attention_factor {
        Some(given) => given,
        None if config.factor > 1.0 => (1.0 + config.factor.log(original)).sqrt(),
        None => 1.0,
    }
}
