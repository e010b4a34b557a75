//! Top-k by a whole sort.

use core::cmp::Ordering;

use crate::top_k::Ties;

/// `-inf` where a logit is not among the `k` largest.
#[must_use]
pub fn apply(logits: &[f64], k: usize, ties: Ties, min_tokens_to_keep: usize) -> Vec<f64> {
    let k = k.max(min_tokens_to_keep).min(logits.len());
    // A stable sort: equals stay in the order of their ids.
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&i, &j| logits[j].partial_cmp(&logits[i]).unwrap_or(Ordering::Equal));
    let mut out = vec![f64::NEG_INFINITY; logits.len()];
    for (rank, &i) in order.iter().enumerate() {
        let stays = match ties {
            Ties::Kept => logits[i] >= logits[order[k - 1]],
            Ties::Exact => rank < k,
        };
        if stays {
            out[i] = logits[i];
        }
    }
    out
}
