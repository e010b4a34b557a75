//! Contrastive search by its formula (arXiv:2202.06417v3).

/// The cosine of the angle between two vectors; 0 if one is zero.
#[must_use]
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let lengths = norm(a) * norm(b);
    if lengths == 0.0 { 0.0 } else { dot / lengths }
}

// ANCHOR: scores
/// `(1 - alpha) p(v) - alpha max_j cos(h_v, h_j)` of each candidate.
#[must_use]
pub fn scores(
    probabilities: &[f64],
    candidates: &[Vec<f64>],
    context: &[Vec<f64>],
    alpha: f64,
) -> Vec<f64> {
    let mut scores = Vec::new();
    for (p, hidden) in probabilities.iter().zip(candidates) {
        let mut penalty = f64::NEG_INFINITY;
        for position in context {
            penalty = penalty.max(cosine(hidden, position));
        }
        scores.push((1.0 - alpha) * p - alpha * penalty);
    }
    scores
}
// ANCHOR_END: scores
