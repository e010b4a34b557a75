//! Typical sampling by a whole sort.

/// `-inf` where a token's surprise is farther from the entropy than that of the tokens that have probability `typical_p`.
#[must_use]
pub fn apply(logits: &[f64], typical_p: f64, min_tokens_to_keep: usize) -> Vec<f64> {
    if typical_p == 1.0 {
        return logits.to_vec();
    }
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let log_p: Vec<f64> = logits.iter().map(|x| x - max - total.ln()).collect();
    let allowed = (0..logits.len()).filter(|&i| logits[i] > f64::NEG_INFINITY);
    let mut order: Vec<usize> = allowed.collect();
    let entropy: f64 = order.iter().map(|&i| -log_p[i].exp() * log_p[i]).sum();
    let distance = |i: usize| (-log_p[i] - entropy).abs();
    order.sort_by(|&i, &j| distance(i).total_cmp(&distance(j)));

    // The rank at which the sum reaches typical_p, or the last.
    let mut sum = 0.0;
    let reached = order.iter().position(|&i| {
        sum += log_p[i].exp();
        sum >= typical_p
    });
    let rank = reached
        .unwrap_or(order.len() - 1)
        .max(min_tokens_to_keep.min(order.len()) - 1);
    let farthest = distance(order[rank]);
    let stays = |i: usize| logits[i] > f64::NEG_INFINITY && distance(i) <= farthest;
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
