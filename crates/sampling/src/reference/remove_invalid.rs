//! Replacement of what is not finite.

/// NaN becomes 0, infinities become `largest` and its negative.
#[must_use]
pub fn apply(logits: &[f64], largest: f64) -> Vec<f64> {
    let replace = |x: f64| match x {
        x if x.is_nan() => 0.0,
        f64::INFINITY => largest,
        f64::NEG_INFINITY => -largest,
        x => x,
    };
    logits.iter().map(|x| replace(*x)).collect()
}
