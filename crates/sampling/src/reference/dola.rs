//! DoLa on probabilities (arXiv:2309.03883v2).

use super::categorical::log_softmax;

/// `sum_i p_i ln(p_i / q_i)`, over the `i` with `p_i > 0`.
#[must_use]
pub fn kl(p: &[f64], q: &[f64]) -> f64 {
    let pairs = p.iter().zip(q).filter(|(p, _)| **p > 0.0);
    pairs.map(|(p, q)| p * (p / q).ln()).sum()
}

/// The smallest number above 0: half of it is 0.
const SMALLEST: f64 = f64::from_bits(1);

/// The Jensen-Shannon divergence; with `reversed`, the mixture comes first in both terms.
#[must_use]
pub fn divergence(p: &[f64], q: &[f64], reversed: bool) -> f64 {
    let m: Vec<f64> = p
        .iter()
        .zip(q)
        .map(|(p, q)| ((p + q) / 2.0).max(SMALLEST))
        .collect();
    if reversed {
        (kl(&m, p) + kl(&m, q)) / 2.0
    } else {
        (kl(p, &m) + kl(q, &m)) / 2.0
    }
}

/// `ln p - ln q` where `p` is at least a share of its largest, `-inf` else.
#[must_use]
pub fn contrast(last: &[f64], premature: &[f64], relative_top: f64) -> Vec<f64> {
    let p: Vec<f64> = log_softmax(last).into_iter().map(f64::exp).collect();
    let q = log_softmax(premature);
    let max = p.iter().copied().fold(0.0, f64::max);
    let stays = |i: usize| p[i] > 0.0 && p[i] >= relative_top * max;
    (0..p.len())
        .map(|i| {
            if stays(i) {
                p[i].ln() - q[i]
            } else {
                f64::NEG_INFINITY
            }
        })
        .collect()
}
