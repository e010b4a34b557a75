//! SiLU as in a textbook.

/// `x / (1 + e^-x)`.
#[must_use]
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// The derivative by the product rule: `s + x s (1 - s)` with `s = 1 / (1 + e^-x)`.
#[must_use]
pub fn silu_derivative(x: f64) -> f64 {
    let s = 1.0 / (1.0 + (-x).exp());
    s + x * s * (1.0 - s)
}
