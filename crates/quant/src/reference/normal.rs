//! The normal distribution by its series.

/// `Φ(x) = 1/2 + φ(x) (x + x³/3 + x⁵/(3·5) + …)` with the density `φ`; Marsaglia 2004, J. Stat. Softw. 11(4), eq. 1.
#[must_use]
pub fn cdf(x: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while sum + term != sum {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    let density = (-x * x / 2.0).exp() / (2.0 * core::f64::consts::PI).sqrt();
    0.5 + density * sum
}

/// The `x` with `Φ(x) = p`, by halving an interval; for `p` from 1e-6 to `1 - 1e-6`.
#[must_use]
pub fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-5.0, 5.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The NF4 values in `f64` from the definition in words: quantiles of `n` equal steps on each side, divided by the largest.
#[must_use]
// ANCHOR: nf4
pub fn nf4(offset: f64) -> Vec<f64> {
    let half = |n_steps: usize| {
        (0..n_steps).map(move |i| quantile(offset - (offset - 0.5) * i as f64 / n_steps as f64))
    };
    let mut values: Vec<f64> = half(7).map(|x| -x).collect();
    values.push(0.0);
    values.extend(half(8).collect::<Vec<_>>().into_iter().rev());
    let largest = values[15];
    values.iter().map(|x| x / largest).collect()
}
// ANCHOR_END: nf4
