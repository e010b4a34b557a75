//! Eta sampling by probabilities.

/// `-inf` where a token has a probability below `min(epsilon, sqrt(epsilon) e^-entropy)`, but for the likeliest `min_tokens_to_keep`.
#[must_use]
pub fn apply(logits: &[f64], epsilon: f64, min_tokens_to_keep: usize) -> Vec<f64> {
    let bound = eta(logits, epsilon);
    super::epsilon_cutoff::apply(logits, bound, min_tokens_to_keep)
}

/// The bound on probabilities.
#[must_use]
pub fn eta(logits: &[f64], epsilon: f64) -> f64 {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let p = logits.iter().map(|x| (x - max).exp() / total);
    let entropy: f64 = p.filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    epsilon.min(epsilon.sqrt() * (-entropy).exp())
}
