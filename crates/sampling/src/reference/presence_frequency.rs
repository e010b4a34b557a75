//! Presence and frequency penalties by counting.

/// `x_i - count_i frequency - [count_i > 0] presence`, with the counts of `window`; infinite `x_i` stay.
#[must_use]
pub fn apply(logits: &[f64], window: &[u32], presence: f64, frequency: f64) -> Vec<f64> {
    let count = |i: usize| window.iter().filter(|t| **t as usize == i).count() as f64;
    let penalty = |i: usize| count(i) * frequency + if count(i) > 0.0 { presence } else { 0.0 };
    let less = |i: usize| {
        if logits[i].is_infinite() {
            logits[i]
        } else {
            logits[i] - penalty(i)
        }
    };
    (0..logits.len()).map(less).collect()
}
