//! The length penalty by repeated multiplication.

/// `x + |x| (factor^n - 1)` for the stop ids where it is finite, with `n` tokens beyond the start.
#[must_use]
pub fn apply(logits: &[f64], stop_ids: &[u32], factor: f64, n: usize) -> Vec<f64> {
    let growth = (0..n).fold(1.0, |power, _| power * factor) - 1.0;
    let mut out = logits.to_vec();
    for (i, x) in out.iter_mut().enumerate() {
        if n > 0 && stop_ids.contains(&(i as u32)) && x.is_finite() {
            *x += x.abs() * growth;
        }
    }
    out
}
