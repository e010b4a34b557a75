//! The normal distribution by its series.

/// `Φ(x) = 1/2 + φ(x) (x + x³/3 + x⁵/(3·5) + …)` with the density `φ`; Marsaglia 2004, J. Stat. Softw. 11(4), eq. 1.
///
/// # Precision
///
/// About 1e-15, absolute, for `x` from -6 to 6.
///
/// # Example
///
/// ```
/// assert!((llm_quant::reference::normal::cdf(1.959_963_984_540_054) - 0.975).abs() < 1e-14);
/// ```
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
///
/// # Precision
///
/// About 1e-10 at the ends of that range, and 1e-15 in the middle.
///
/// # Example
///
/// ```
/// assert!((llm_quant::reference::normal::quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-13);
/// ```
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
///
/// # Precision
///
/// About 1e-14.
///
/// # Example
///
/// ```
/// let code = llm_quant::reference::normal::nf4(llm_quant::nf4::OFFSET);
/// assert!((code[1] + 0.696_192_800_998_687_7).abs() < 1e-6);
/// ```
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
