//! XTC by a whole sort.

use core::cmp::Ordering;

/// What becomes of the logits if the coin says so.
#[must_use]
pub fn apply(logits: &[f64], threshold: f64, min_tokens_to_keep: usize) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let mut order: Vec<usize> = (0..logits.len())
        .filter(|&i| logits[i] > f64::NEG_INFINITY)
        .collect();
    // A stable sort: equals stay in the order of their ids.
    order.sort_by(|&i, &j| logits[j].partial_cmp(&logits[i]).unwrap_or(Ordering::Equal));
    let mut last = 0;
    while last + 1 < order.len() && (logits[order[last + 1]] - max).exp() / total >= threshold {
        last += 1;
    }
    let mut out = logits.to_vec();
    if last > 0 && order.len() - last >= min_tokens_to_keep {
        for &i in &order[..last] {
            out[i] = f64::NEG_INFINITY;
        }
    }
    out
}
