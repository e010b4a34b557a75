//! Logit bias by a sum over all pairs.

/// `x_i` plus all its biases.
#[must_use]
pub fn apply(logits: &[f64], biases: &[(u32, f64)]) -> Vec<f64> {
    let of = |i: usize| biases.iter().filter(move |b| b.0 as usize == i);
    (0..logits.len())
        .map(|i| logits[i] + of(i).map(|b| b.1).sum::<f64>())
        .collect()
}
