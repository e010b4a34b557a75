//! Exercise of the page on stores: which tokens sinks and a window hold.

// ANCHOR: exercise
/// Positions of the tokens that a cache with `n_sinks` sinks and a window holds after `seen` tokens, rising.
#[must_use]
pub fn held_positions(seen: usize, n_sinks: usize, window: usize) -> Vec<usize> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let is_sink = |t: usize| t < n_sinks;
    let is_new = |t: usize| t + window >= seen;
    (0..seen).filter(|&t| is_sink(t) || is_new(t)).collect()
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_kvcache::SinkCache;
    use llm_kvcache::ring::RingConfig;
    use ndarray::Array3;

    use super::held_positions;

    // ANCHOR: tests
    #[test]
    fn the_first_and_the_last_are_held() {
        assert_eq!(held_positions(12, 2, 4), [0, 1, 8, 9, 10, 11]);
        assert_eq!(held_positions(12, 0, 3), [9, 10, 11]);
        assert_eq!(held_positions(5, 2, 4), [0, 1, 2, 3, 4]);
        assert_eq!(held_positions(1, 2, 4), [0]);
    }

    #[test]
    fn the_crate_agrees() {
        for (n_sinks, window) in [(0, 1), (1, 1), (2, 4), (3, 2)] {
            let mut cache =
                SinkCache::<f32>::new(n_sinks, &RingConfig::new(1, 1, window, 1)).unwrap();
            let token = Array3::zeros([1, 1, 1]);
            for seen in 1..20 {
                cache.append(0, &token, &token).unwrap();
                let want = held_positions(seen, n_sinks, window);
                assert_eq!(cache.positions(0).unwrap(), want);
            }
        }
    }
    // ANCHOR_END: tests
}
