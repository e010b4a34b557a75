//! Exercise of the page on biases: the slopes of ALiBi.

// ANCHOR: exercise
/// The slopes of `n_heads` heads, a power of two: a geometric series that ends at 1/256.
#[must_use]
pub fn alibi_slopes(n_heads: usize) -> Vec<f64> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    (1..=n_heads)
        .map(|head| 2_f64.powf(-8.0 * head as f64 / n_heads as f64))
        .collect()
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_posenc::alibi;

    use super::alibi_slopes;

    // ANCHOR: tests
    #[test]
    fn eight_heads_halve() {
        let want = [
            0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625,
        ];
        assert_eq!(alibi_slopes(8), want);
    }

    #[test]
    fn the_crate_agrees() {
        for n_heads in [1, 2, 4, 16, 64] {
            let want = alibi::slopes(n_heads, alibi::MAX_BIAS).unwrap();
            for (got, want) in alibi_slopes(n_heads).iter().zip(&want) {
                assert!((got - f64::from(*want)).abs() <= 1e-7 * got);
            }
        }
    }
    // ANCHOR_END: tests
}
