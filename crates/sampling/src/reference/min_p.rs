//! Min-p by probabilities.

/// `-inf` where a token has less than `min_p` times the largest probability, but for the likeliest `min_tokens_to_keep`.
#[must_use]
pub fn apply(logits: &[f64], min_p: f64, min_tokens_to_keep: usize) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let nth = sorted[min_tokens_to_keep.min(sorted.len()) - 1];
    let stays = |x: f64| (x - max).exp() >= min_p || x >= nth;
    logits
        .iter()
        .map(|&x| if stays(x) { x } else { f64::NEG_INFINITY })
        .collect()
}
