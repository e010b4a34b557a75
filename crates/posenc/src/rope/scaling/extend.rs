//! Linear, NTK-aware, LongRoPE and Llama 3: each a few lines on the plain frequencies.

use ndarray::Array1;

use super::{LongRopeConfig, at_least, positive};
use crate::PosencError;
use crate::rope::{RopeConfig, inv_freq};

pub(super) fn linear(plain: Array1<f64>, factor: f64) -> Result<Array1<f64>, PosencError> {
    Ok(plain / positive("factor", factor)?)
}

/// The frequencies of `base alpha^(d / (d - 2))`: the lowest one is divided by `alpha`.
pub(super) fn ntk(config: &RopeConfig, alpha: f64) -> Result<Array1<f64>, PosencError> {
    let got = config.rotary_dim;
    if got == 2 {
        return Err(PosencError::NtkRotaryDim { got });
    }
    let d = got as f64;
    let base = config.base * alpha.powf(d / (d - 2.0));
    if !(base.is_finite() && base > 1.0) {
        return Err(PosencError::ScaledBase { got: base });
    }
    inv_freq(&config.with_base(base))
}

/// 1 up to the length of the configuration, then a line of slope `factor` in `seq_len / length`.
pub(super) fn dynamic_alpha(
    factor: f64,
    max_position_embeddings: usize,
    seq_len: Option<usize>,
) -> Result<f64, PosencError> {
    let factor = positive("factor", factor)?;
    let max = at_least("max_position_embeddings", max_position_embeddings, 1)?;
    let length = seq_len.map_or(max, |seq_len| max.max(seq_len as f64));
    // f L / max - (f - 1), written so that it is 1 exactly at L = max.
    Ok(1.0 + factor * (length - max) / max)
}

pub(super) fn long_rope(
    plain: Array1<f64>,
    config: &LongRopeConfig,
    seq_len: Option<usize>,
) -> Result<(Array1<f64>, f64), PosencError> {
    let name = "original_max_position_embeddings";
    let original = config.original_max_position_embeddings;
    let factor = positive("factor", config.factor)?;
    let attention_factor = match config.attention_factor {
        Some(given) => positive("attention_factor", given)?,
        None if factor <= 1.0 => {
            at_least(name, original, 1)?;
            1.0
        }
        // The logarithm of one token is zero.
        None => (1.0 + factor.ln() / at_least(name, original, 2)?.ln()).sqrt(),
    };
    at_least(name, original, 1)?;
    for (name, factors) in [
        ("short_factor", &config.short_factor),
        ("long_factor", &config.long_factor),
    ] {
        let (expected, got) = (plain.len(), factors.len());
        if got != expected {
            return Err(PosencError::ScalingLen {
                name,
                expected,
                got,
            });
        }
        let is_wrong = |factor: &f64| !(*factor > 0.0 && factor.is_finite());
        if let Some(index) = factors.iter().position(is_wrong) {
            let got = factors[index];
            return Err(PosencError::ScalingFactor { name, index, got });
        }
    }
    let factors = if seq_len.is_some_and(|seq_len| seq_len > original) {
        &config.long_factor
    } else {
        &config.short_factor
    };
    let inv_freq = plain.iter().zip(factors).map(|(w, f)| w / f).collect();
    Ok((inv_freq, attention_factor))
}

pub(super) fn llama3(
    plain: Array1<f64>,
    factor: f64,
    [low, high]: [f64; 2],
    original_max_position_embeddings: usize,
) -> Result<Array1<f64>, PosencError> {
    let factor = positive("factor", factor)?;
    let low = positive("low_freq_factor", low)?;
    let high = positive("high_freq_factor", high)?;
    let name = "original_max_position_embeddings";
    let original = at_least(name, original_max_position_embeddings, 1)?;
    if !(low < high) {
        return Err(PosencError::ScalingOrder {
            relation: "below",
            low: "low_freq_factor",
            low_value: low,
            high: "high_freq_factor",
            high_value: high,
        });
    }
    Ok(plain.mapv(|w| {
        // Waves in the original length; low and high bound them.
        let waves = original * w / std::f64::consts::TAU;
        if waves > high {
            w
        } else if waves < low {
            w / factor
        } else {
            let smooth = (waves - low) / (high - low);
            (1.0 - smooth) * w / factor + smooth * w
        }
    }))
}
