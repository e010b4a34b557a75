//! Tail-free sampling with arrays of differences.

use core::cmp::Ordering;

/// `-inf` from the token on whose bends have enough in front of them.
#[must_use]
pub fn apply(logits: &[f64], z: f64, min_tokens_to_keep: usize) -> Vec<f64> {
    let mut order: Vec<usize> = (0..logits.len())
        .filter(|&i| logits[i] > f64::NEG_INFINITY)
        .collect();
    let n = order.len();
    if z >= 1.0 || n <= 2 {
        return logits.to_vec();
    }
    // A stable sort: equals stay in the order of their ids.
    order.sort_by(|&i, &j| logits[j].partial_cmp(&logits[i]).unwrap_or(Ordering::Equal));
    let total: f64 = order
        .iter()
        .map(|&i| (logits[i] - logits[order[0]]).exp())
        .sum();
    let p: Vec<f64> = order
        .iter()
        .map(|&i| (logits[i] - logits[order[0]]).exp() / total)
        .collect();
    let first: Vec<f64> = (0..n - 1).map(|i| p[i] - p[i + 1]).collect();
    let mut second: Vec<f64> = (0..n - 2)
        .map(|i| (first[i] - first[i + 1]).abs())
        .collect();
    let sum: f64 = second.iter().sum();
    for d in &mut second {
        *d = if sum > 1e-6 {
            *d / sum
        } else {
            1.0 / (n - 2) as f64
        };
    }
    let mut keep = n;
    let mut cumulative = 0.0;
    for (i, d) in second.iter().enumerate() {
        cumulative += d;
        if cumulative > z && i >= min_tokens_to_keep {
            keep = i;
            break;
        }
    }
    let mut out = vec![f64::NEG_INFINITY; logits.len()];
    for &i in &order[..keep] {
        out[i] = logits[i];
    }
    out
}
