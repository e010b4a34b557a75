//! Speculative sampling on tables of probabilities: algorithm 1 of arXiv:2211.17192v2, one token at a time.

/// Probabilities of logits.
#[must_use]
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    logits.iter().map(|x| (x - max).exp() / total).collect()
}

/// `min(1, p / q)`, 1 where nothing is drafted.
#[must_use]
pub fn accept_probabilities(p: &[f64], q: &[f64]) -> Vec<f64> {
    let ratio = |i: usize| if q[i] > 0.0 { p[i] / q[i] } else { 1.0 };
    (0..p.len()).map(|i| ratio(i).min(1.0)).collect()
}

/// `max(p - q, 0)`, divided by its sum; `p` if that is 0.
#[must_use]
pub fn residual(p: &[f64], q: &[f64]) -> Vec<f64> {
    let mut r: Vec<f64> = p
        .iter()
        .zip(q)
        .map(|(p, q)| if p > q { p - q } else { 0.0 })
        .collect();
    let total: f64 = r.iter().sum();
    if total <= 0.0 {
        return p.to_vec();
    }
    for x in &mut r {
        *x /= total;
    }
    r
}

// ANCHOR: verify
/// The new tokens: `p[i]` and `q[i]` are the distributions at position `i`, with one more of `p`.
#[must_use]
pub fn verify(
    p: &[Vec<f64>],
    q: &[Vec<f64>],
    drafted: &[usize],
    accept: &[f64],
    choose: &[f64],
) -> Vec<usize> {
    let mut tokens = Vec::new();
    for (i, &x) in drafted.iter().enumerate() {
        if accept[i] < accept_probabilities(&p[i], &q[i])[x] {
            tokens.push(x);
        } else {
            tokens.push(inverse_cdf(&residual(&p[i], &q[i]), choose[i]));
            return tokens;
        }
    }
    let n = drafted.len();
    tokens.push(inverse_cdf(&p[n], choose[n]));
    tokens
}
// ANCHOR_END: verify

/// The token whose slice of the unit interval holds `u`.
#[must_use]
pub fn inverse_cdf(p: &[f64], u: f64) -> usize {
    let mut cumulative = 0.0;
    for (i, p) in p.iter().enumerate() {
        cumulative += p;
        if u < cumulative {
            return i;
        }
    }
    p.iter().rposition(|p| *p > 0.0).unwrap_or(0)
}

/// The new tokens of greedy verification: `best[i]` is the target's choice at position `i`, with one more than drafted ones.
#[must_use]
pub fn verify_greedy(best: &[usize], drafted: &[usize]) -> Vec<usize> {
    let mut tokens = Vec::new();
    for (i, &token) in best.iter().enumerate() {
        tokens.push(token);
        if drafted.get(i) != Some(&token) {
            break;
        }
    }
    tokens
}
