//! The gradient of a reference by central differences.

use ndarray::{Array, Dimension};

/// The gradient of `f` at `x`; steps `h` and `h / 2` combined, so the error is of order `h^4`.
pub(crate) fn gradient<D: Dimension>(
    x: &Array<f64, D>,
    f: impl Fn(&Array<f64, D>) -> f64,
) -> Array<f64, D> {
    let mut x = x.clone();
    let mut gradient = x.clone();
    for (i, slope) in gradient.iter_mut().enumerate() {
        let base = *x.iter().nth(i).unwrap();
        let mut at = |value: f64| {
            *x.iter_mut().nth(i).unwrap() = value;
            f(&x)
        };
        let h = 1e-3 * base.abs().max(1.0);
        let coarse = (at(base + h) - at(base - h)) / (2.0 * h);
        let fine = (at(base + h / 2.0) - at(base - h / 2.0)) / h;
        at(base);
        *slope = (4.0 * fine - coarse) / 3.0;
    }
    gradient
}
