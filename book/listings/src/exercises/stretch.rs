//! Second exercise of the page on RoPE: linear interpolation, seen from the positions.

// ANCHOR: exercise
/// The angles of plane `i` at each position, so that `factor` times as many tokens use the angles
/// that the model has seen in training.
#[must_use]
pub fn stretched_angles(n_tokens: usize, inv_freq: f64, factor: f64) -> Vec<f64> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    (0..n_tokens)
        .map(|position| position as f64 / factor * inv_freq)
        .collect()
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use super::stretched_angles;

    // ANCHOR: tests
    #[test]
    fn every_fourth_token_has_an_angle_from_training() {
        let inv_freq = 0.1;
        let trained: Vec<f64> = (0..8)
            .map(|position| f64::from(position) * inv_freq)
            .collect();
        let stretched = stretched_angles(32, inv_freq, 4.0);
        for (position, want) in trained.iter().enumerate() {
            assert!((stretched[4 * position] - want).abs() < 1e-12);
        }
        assert!(stretched[31] < 8.0 * inv_freq);
    }
    // ANCHOR_END: tests
}
