//! Laws of the eviction policies.

use llm_kvcache::eviction::{SnapKvConfig, heavy_hitters, snapkv, window};
use llm_kvcache::reference;
use ndarray::Array3;
use proptest::prelude::*;

proptest! {
    /// A window is the tokens whose distance to an end is small.
    #[test]
    fn a_window_is_both_ends(len in 0..20_usize, n_sinks in 0..25_usize, size in 0..25_usize) {
        let expected: Vec<_> = (0..len).filter(|&i| i < n_sinks || i + size >= len).collect();
        prop_assert_eq!(window(len, n_sinks, size), expected);
    }

    /// Heavy hitters are those that few beat; scores are often equal here.
    #[test]
    fn heavy_hitters_are_beaten_by_few(
        scores in prop::collection::vec((0..4_u8).prop_map(f64::from), 0..20),
        n_heavy in 0..25_usize,
        n_recent in 0..25_usize,
    ) {
        let got = heavy_hitters(&scores, n_heavy, n_recent).unwrap();
        prop_assert_eq!(got.len(), scores.len().min(n_heavy + n_recent));
        prop_assert_eq!(got, reference::eviction::heavy_hitters(&scores, n_heavy, n_recent));
    }

    /// `SnapKV` keeps its budget, the last tokens, and what the reference keeps.
    #[test]
    fn snapkv_is_votes_and_what_lies_around_them(
        [heads, observation, more, extra, half] in [1..3_usize, 0..4, 0..12, 0..8, 0..3],
        numbers in prop::collection::vec((0..8_u8).prop_map(f64::from), 1..40),
    ) {
        let kv_seq = observation + more;
        let weights = Array3::from_shape_fn([heads, observation, kv_seq], |(h, q, i)| {
            numbers[(h * 31 + q * 17 + i * 7) % numbers.len()]
        });
        let budget = observation + extra;
        let config = SnapKvConfig::new(budget, observation, 2 * half + 1);
        let got = snapkv(&weights, &config).unwrap();
        prop_assert_eq!(got.len(), budget.min(kv_seq));
        if observation > 0 {
            let nested: Vec<Vec<Vec<f64>>> =
                weights.outer_iter().map(|head| head.outer_iter().map(|row| row.to_vec()).collect()).collect();
            prop_assert_eq!(got, reference::eviction::snapkv(&nested, budget, 2 * half + 1));
        }
    }
}
