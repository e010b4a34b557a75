//! Exercise of the page on attention by tiles: the log-sum-exp of scores that come in tiles.

// ANCHOR: exercise
/// `ln(e^s[0] + e^s[1] + ..)`, with `tile` scores in hand at a time, `tile` at least 1. Minus infinity without scores.
///
/// No exponential overflows, however large the scores are.
#[must_use]
pub fn online_lse(scores: &[f64], tile: usize) -> f64 {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let (mut max, mut total) = (f64::NEG_INFINITY, 0.0);
    for tile in scores.chunks(tile) {
        let new = tile.iter().fold(max, |max, &score| max.max(score));
        if new == f64::NEG_INFINITY {
            continue; // nothing but hidden keys so far
        }
        let here: f64 = tile.iter().map(|score| (score - new).exp()).sum();
        total = (max - new).exp() * total + here;
        max = new;
    }
    max + total.ln()
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_attention::io_count::{Tiles, flash2};
    use ndarray::Array2;

    use super::online_lse;

    // ANCHOR: tests
    #[test]
    fn four_equal_scores_add_ln_4() {
        // e^1000 is no number any more.
        for tile in 1..=5 {
            let got = online_lse(&[1000.0; 4], tile);
            assert!((got - (1000.0 + 4_f64.ln())).abs() < 1e-9);
        }
    }

    #[test]
    fn hidden_keys_add_nothing() {
        let hidden = f64::NEG_INFINITY;
        assert_eq!(online_lse(&[hidden, hidden, 3.0, hidden], 2), 3.0);
        assert_eq!(online_lse(&[hidden; 3], 2), hidden);
        assert_eq!(online_lse(&[], 2), hidden);
    }

    #[test]
    fn the_crate_agrees() {
        let scores = [0.5, -2.0, 7.0, 7.5, -30.0, 1.0, 0.0];
        // One query, 1: the scores are the keys.
        let q = Array2::ones((1, 1));
        let k = Array2::from_shape_fn((7, 1), |(j, _)| scores[j]);
        for tile in 1..=7 {
            let tiles = Tiles {
                query_tile: 1,
                key_tile: tile,
            };
            let (_, lse, _) = flash2(&q, &k, &k, tiles).unwrap();
            assert!((online_lse(&scores, tile) - lse[0]).abs() < 1e-12);
        }
    }
    // ANCHOR_END: tests
}
