//! The exponential race by its clocks.

// ANCHOR: first
/// The first index of the smallest time `-ln u_i / p_i`.
#[must_use]
pub fn first(logits: &[f64], uniforms: &[f64]) -> usize {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let times: Vec<f64> = logits
        .iter()
        .zip(uniforms)
        .map(|(x, u)| -u.ln() / ((x - max).exp() / total))
        .collect();
    let soonest = times.iter().copied().fold(f64::INFINITY, f64::min);
    times.iter().position(|t| *t == soonest).unwrap_or(0)
}
// ANCHOR_END: first
