//! A draw from a table of cumulative probabilities.

/// `ln softmax(x)`.
#[must_use]
pub fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    logits.iter().map(|x| x - max - total.ln()).collect()
}

/// The cumulative distribution `c_i = p_0 + .. + p_i` of `softmax(x)`.
#[must_use]
pub fn cumulative(logits: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let terms = log_softmax(logits).into_iter();
    terms
        .map(|log_p| {
            sum += log_p.exp();
            sum
        })
        .collect()
}
