//! Gumbel-max by a list of sums.

// ANCHOR: argmax
/// The first index of the largest `x_i - ln(-ln u_i)`.
#[must_use]
pub fn argmax(logits: &[f64], uniforms: &[f64]) -> usize {
    let sums: Vec<f64> = logits
        .iter()
        .zip(uniforms)
        .map(|(x, u)| x - (-u.ln()).ln())
        .collect();
    let largest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    sums.iter().position(|s| *s == largest).unwrap_or(0)
}
// ANCHOR_END: argmax
