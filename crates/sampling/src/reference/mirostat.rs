//! Mirostat by whole sorts and probabilities.

use core::cmp::Ordering;

/// Ids above `-inf` by descending probability, equals by ascending id, and these probabilities.
fn sorted(logits: &[f64]) -> (Vec<usize>, Vec<f64>) {
    let mut order: Vec<usize> = (0..logits.len())
        .filter(|&i| logits[i] > f64::NEG_INFINITY)
        .collect();
    order.sort_by(|&i, &j| logits[j].partial_cmp(&logits[i]).unwrap_or(Ordering::Equal));
    let terms: Vec<f64> = order
        .iter()
        .map(|&i| (logits[i] - logits[order[0]]).exp())
        .collect();
    let total: f64 = terms.iter().sum();
    (order, terms.iter().map(|t| t / total).collect())
}

fn keep(logits: &[f64], order: &[usize], count: usize) -> Vec<f64> {
    let mut out = vec![f64::NEG_INFINITY; logits.len()];
    for &i in &order[..count] {
        out[i] = logits[i];
    }
    out
}

/// `k` of version 1, before it is made a whole number.
#[must_use]
pub fn k(logits: &[f64], n_estimate: usize, mu: f64) -> f64 {
    let (_, p) = sorted(logits);
    let (mut above, mut below) = (0.0, 0.0);
    for i in 1..n_estimate.min(p.len()) {
        let t = ((i + 1) as f64 / i as f64).ln();
        above += t * (p[i - 1] / p[i]).ln();
        below += t * t;
    }
    let s = above / below;
    let e = s - 1.0;
    (e * mu.exp2() / (1.0 - (logits.len() as f64).powf(-e))).powf(1.0 / s)
}

/// What stays in version 1.
#[must_use]
pub fn mask_v1(logits: &[f64], n_estimate: usize, mu: f64) -> Vec<f64> {
    let (order, _) = sorted(logits);
    if order.len() == 1 {
        return logits.to_vec(); // there is nothing to estimate from
    }
    let count = k(logits, n_estimate, mu)
        .floor()
        .clamp(1.0, order.len() as f64);
    keep(logits, &order, count as usize)
}

/// What stays in version 2.
#[must_use]
pub fn mask_v2(logits: &[f64], mu: f64) -> Vec<f64> {
    let (order, p) = sorted(logits);
    let count = p.iter().take_while(|p| -p.log2() <= mu).count();
    keep(logits, &order, count.max(1))
}

/// The next state, after a token of probability `p`.
#[must_use]
pub fn next_mu(mu: f64, tau: f64, eta: f64, p: f64) -> f64 {
    mu - eta * ((1.0 / p).log2() - tau)
}
