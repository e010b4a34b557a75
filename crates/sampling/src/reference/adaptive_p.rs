//! Adaptive-p from its whole history.

/// The logits to draw from, after tokens whose probabilities were `chosen`, the oldest first.
#[must_use]
pub fn transform(logits: &[f64], target: f64, decay: f64, chosen: &[f64]) -> Vec<f64> {
    // As if the target had been met for ever before: a geometric series.
    let n = chosen.len();
    let mut sum = target * decay.powi(n as i32) / (1.0 - decay);
    let mut weight = decay.powi(n as i32) / (1.0 - decay);
    for (i, p) in chosen.iter().enumerate() {
        sum += p * decay.powi((n - 1 - i) as i32);
        weight += decay.powi((n - 1 - i) as i32);
    }
    let preferred = (2.0 * target - sum / weight).clamp(0.0, 1.0);
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let curve = |x: &f64| {
        let d = ((x - max).exp() / total - preferred).abs() * (10.0 / 3.0);
        if *x == f64::NEG_INFINITY {
            *x
        } else {
            5.0 - 10.0 * d.powi(2) / (1.0 + d)
        }
    };
    logits.iter().map(curve).collect()
}
