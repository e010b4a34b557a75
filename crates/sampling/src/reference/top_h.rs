//! Top-h by a whole sort.

/// `-inf` where a token is not among the likeliest that have `top_h` of the entropy of the likeliest 100.
#[must_use]
pub fn apply(logits: &[f64], top_h: f64) -> Vec<f64> {
    // A stable sort: equals stay in the order of their ids.
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&i, &j| {
        logits[j]
            .partial_cmp(&logits[i])
            .unwrap_or(core::cmp::Ordering::Equal)
    });
    order.truncate(100);
    let max = logits[order[0]];
    let total: f64 = order.iter().map(|&i| (logits[i] - max).exp()).sum();
    let terms: Vec<f64> = order
        .iter()
        .map(|&i| (logits[i] - max).exp() / total)
        .map(|p| if p > 0.0 { -p * p.ln() } else { 0.0 })
        .collect();
    let entropy: f64 = terms.iter().sum();

    let mut out = vec![f64::NEG_INFINITY; logits.len()];
    let mut sum = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        sum += terms[rank];
        if rank == 0 || top_h == 1.0 || sum <= top_h * entropy {
            out[i] = logits[i];
        }
    }
    out
}
