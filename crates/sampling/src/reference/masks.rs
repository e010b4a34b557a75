//! Processors that mask or force given tokens, when a count of tokens says so. The counts are the caller's.

/// `-inf` for these tokens.
#[must_use]
pub fn mask(logits: &[f64], tokens: &[u32]) -> Vec<f64> {
    let masked = |i: usize| tokens.contains(&(i as u32));
    (0..logits.len())
        .map(|i| {
            if masked(i) {
                f64::NEG_INFINITY
            } else {
                logits[i]
            }
        })
        .collect()
}

/// 0 for these tokens, `-inf` for all others.
#[must_use]
pub fn force(vocab: usize, tokens: &[u32]) -> Vec<f64> {
    let forced = |i: usize| tokens.contains(&(i as u32));
    (0..vocab)
        .map(|i| if forced(i) { 0.0 } else { f64::NEG_INFINITY })
        .collect()
}
