//! Greedy decoding by a scan.

/// The first index of the largest logit; 0 without logits.
#[must_use]
pub fn argmax(logits: &[f64]) -> usize {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best
}
