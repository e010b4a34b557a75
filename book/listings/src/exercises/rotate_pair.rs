//! First exercise of the page on RoPE: the rotation of one head, with half-split pairs.

// ANCHOR: exercise
/// Rotates the pairs `(x[i], x[i + n])` of a head with `2 n` features by `position * base^(-i / n)`.
pub fn rotate_half_split(x: &mut [f64], position: usize, base: f64) {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let n = x.len() / 2;
    for i in 0..n {
        let angle = position as f64 * base.powf(-(i as f64) / n as f64);
        let (sin, cos) = angle.sin_cos();
        (x[i], x[i + n]) = (x[i] * cos - x[i + n] * sin, x[i] * sin + x[i + n] * cos);
    }
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_posenc::rope::{self, RopeConfig, RopePairing};
    use ndarray::{Array4, array};

    use super::rotate_half_split;

    // ANCHOR: tests
    #[test]
    fn position_zero_changes_nothing() {
        let mut x = [1.0, 2.0, 3.0, 4.0];
        rotate_half_split(&mut x, 0, 10_000.0);
        assert_eq!(x, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn the_crate_agrees() {
        let mut x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let before = Array4::from_shape_fn((1, 1, 1, 6), |(.., i)| x[i]);
        let config = RopeConfig::new(6, RopePairing::HalfSplit).with_base(100.0);
        let want = rope::apply_at(&before, &array![17], &config).unwrap();
        rotate_half_split(&mut x, 17, 100.0);
        for (got, want) in x.iter().zip(&want) {
            assert!((got - want).abs() < 1e-6); // the crate's cosines are f32
        }
    }
    // ANCHOR_END: tests
}
