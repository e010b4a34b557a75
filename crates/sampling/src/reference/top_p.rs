//! Top-p by a whole sort.

use core::cmp::Ordering;

use crate::top_p::SumFrom;

/// `-inf` where a token is not in the smallest set that has probability `p`.
#[must_use]
pub fn apply(logits: &[f64], p: f64, sum_from: SumFrom, min_tokens_to_keep: usize) -> Vec<f64> {
    // ANCHOR: top_p
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let probability = |i: usize| (logits[i] - max).exp() / total;

    // A stable sort: equals stay in the order of their ids.
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&i, &j| logits[i].partial_cmp(&logits[j]).unwrap_or(Ordering::Equal));
    let n = logits.len();
    let mut out = logits.to_vec();
    if p == 1.0 {
        return out;
    }
    match sum_from {
        SumFrom::Smallest => {
            let mut cumulative = 0.0;
            for (rank, &i) in order.iter().enumerate() {
                cumulative += probability(i);
                if cumulative <= 1.0 - p && rank + min_tokens_to_keep < n {
                    out[i] = f64::NEG_INFINITY;
                }
            }
        }
        SumFrom::Largest => {
            order.sort_by(|&i, &j| logits[j].partial_cmp(&logits[i]).unwrap_or(Ordering::Equal));
            let mut before = 0.0;
            for (rank, &i) in order.iter().enumerate() {
                if before >= p && rank >= min_tokens_to_keep {
                    out[i] = f64::NEG_INFINITY;
                }
                before += probability(i);
            }
        }
    }
    out
    // ANCHOR_END: top_p
}
