//! Temperature as in a textbook.

/// `x_i / T`.
#[must_use]
pub fn apply(logits: &[f64], temperature: f64) -> Vec<f64> {
    logits.iter().map(|x| x / temperature).collect()
}
