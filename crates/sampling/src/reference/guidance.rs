//! Classifier-free guidance.

use crate::guidance::GuidanceSpace;

/// `u + scale (c - u)`, of logits or of their log-softmax; `c` where one of them is not finite.
#[must_use]
pub fn guide(c: &[f64], u: &[f64], scale: f64, space: GuidanceSpace) -> Vec<f64> {
    let (c, u) = match space {
        GuidanceSpace::Logits => (c.to_vec(), u.to_vec()),
        GuidanceSpace::LogProbabilities => (
            super::categorical::log_softmax(c),
            super::categorical::log_softmax(u),
        ),
    };
    let one = |(c, u): (f64, f64)| {
        if c.is_finite() && u.is_finite() {
            (1.0 - scale) * u + scale * c
        } else {
            c
        }
    };
    c.into_iter().zip(u).map(one).collect()
}
