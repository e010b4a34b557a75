//! Exercise of the page on sinusoidal encoding: a step to the right is a rotation.

// ANCHOR: exercise
/// The matrix that turns `[sin(p w), cos(p w)]` into `[sin((p + k) w), cos((p + k) w)]`, whatever `p` is.
#[must_use]
pub fn shift_matrix(k: f64, w: f64) -> [[f64; 2]; 2] {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let (sin, cos) = (k * w).sin_cos();
    [[cos, sin], [-sin, cos]]
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use super::shift_matrix;

    // ANCHOR: tests
    #[test]
    fn one_matrix_shifts_every_position() {
        let (k, w) = (3.0, 0.1);
        let [[a, b], [c, d]] = shift_matrix(k, w);
        for p in 0..100 {
            let p = f64::from(p);
            let (sin, cos) = (p * w).sin_cos();
            let (want_sin, want_cos) = ((p + k) * w).sin_cos();
            assert!((a * sin + b * cos - want_sin).abs() < 1e-12);
            assert!((c * sin + d * cos - want_cos).abs() < 1e-12);
        }
    }
    // ANCHOR_END: tests
}
