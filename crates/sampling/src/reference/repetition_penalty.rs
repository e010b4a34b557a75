//! The repetition penalty, token by token of the vocabulary.

// ANCHOR: penalty
/// Logits of tokens in `seen` divided by the penalty where positive, else multiplied with it.
#[must_use]
pub fn apply(logits: &[f64], seen: &[u32], penalty: f64) -> Vec<f64> {
    let changed = |(i, &x): (usize, &f64)| {
        if !seen.iter().any(|&token| token as usize == i) {
            x
        } else if x > 0.0 {
            x / penalty
        } else {
            x * penalty
        }
    };
    logits.iter().enumerate().map(changed).collect()
}
// ANCHOR_END: penalty
