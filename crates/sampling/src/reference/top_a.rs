//! Top-a by probabilities.

/// `-inf` where a token has less than `a` times the square of the largest probability, but for the likeliest `min_tokens_to_keep`.
#[must_use]
pub fn apply(logits: &[f64], a: f64, min_tokens_to_keep: usize) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let p: Vec<f64> = logits.iter().map(|x| (x - max).exp() / total).collect();
    let largest = p.iter().copied().fold(0.0, f64::max);
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let nth = sorted[min_tokens_to_keep.min(sorted.len()) - 1];
    (0..logits.len())
        .map(|i| {
            let stays = p[i] >= a * largest * largest || logits[i] >= nth;
            if stays { logits[i] } else { f64::NEG_INFINITY }
        })
        .collect()
}
