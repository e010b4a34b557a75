//! Norms and clipping of one flat vector.

use crate::clip::NormType;

/// The norm of a vector.
#[must_use]
pub fn norm(gradient: &[f64], norm_type: NormType) -> f64 {
    let p = match norm_type {
        NormType::Inf => return gradient.iter().fold(0.0, |max, g| max.max(g.abs())),
        NormType::L2 => 2.0,
        NormType::P(p) => p,
    };
    let total: f64 = gradient.iter().map(|g| g.abs().powf(p)).sum();
    total.powf(1.0 / p)
}

/// The vector times `min(1, max_norm / (norm + 1e-6))`.
#[must_use]
pub fn clip_norm(gradient: &[f64], max_norm: f64, norm_type: NormType) -> Vec<f64> {
    let factor = (max_norm / (norm(gradient, norm_type) + 1e-6)).min(1.0);
    gradient.iter().map(|g| g * factor).collect()
}

/// Each element limited to `[-limit, limit]`.
#[must_use]
pub fn clip_value(gradient: &[f64], limit: f64) -> Vec<f64> {
    gradient.iter().map(|g| g.clamp(-limit, limit)).collect()
}
