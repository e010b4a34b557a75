//! Epsilon sampling by probabilities.

/// `-inf` where a token has a probability below `epsilon`, but for the likeliest `min_tokens_to_keep`.
#[must_use]
pub fn apply(logits: &[f64], epsilon: f64, min_tokens_to_keep: usize) -> Vec<f64> {
    let p = probabilities(logits);
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let nth = sorted[min_tokens_to_keep.min(sorted.len()) - 1];
    let stays = |i: usize| p[i] >= epsilon || logits[i] >= nth;
    (0..logits.len())
        .map(|i| {
            if stays(i) {
                logits[i]
            } else {
                f64::NEG_INFINITY
            }
        })
        .collect()
}

/// Softmax.
fn probabilities(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    logits.iter().map(|x| (x - max).exp() / total).collect()
}
