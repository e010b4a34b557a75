//! Known answers (t5), worked out by hand.

use llm_posenc::t5::{self, T5Config, T5Direction};
use ndarray::{Array2, Array3, array};

// T5's encoder: 16 buckets a direction, of which 8 hold one distance each. The others begin at
// 8 * (128/8)^(k/8) = 8 * sqrt(2)^k: 8, 11.3, 16, 22.6, 32, 45.3, 64, 90.5.
#[test]
fn the_encoder_of_t5_has_borders_at_powers_of_the_root_of_two() {
    let config =
        T5Config::new(t5::N_BUCKETS, t5::MAX_DISTANCE, T5Direction::Bidirectional).unwrap();
    let first = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
    for distance in 0..5000_i64 {
        let want = first.iter().filter(|&&first| first <= distance).count() - 1;
        assert_eq!(t5::bucket(-distance, &config), want, "-{distance}");
        let want = if distance == 0 { 0 } else { want + 16 };
        assert_eq!(t5::bucket(distance, &config), want, "{distance}");
    }
}

// T5's decoder: 32 buckets, 16 of them for one distance each, the others from 16 * 8^(k/16), which
// is 16 * 2^(3k/16): 16, 18.2, 20.7, 23.6, 26.9, 30.6, 34.9, 39.7, 45.3, 51.5, 58.7, 66.8, 76.1,
// 86.7, 98.7, 112.4. Later keys are in bucket 0.
#[test]
fn the_decoder_of_t5_ignores_later_keys() {
    let config = T5Config::new(t5::N_BUCKETS, t5::MAX_DISTANCE, T5Direction::Causal).unwrap();
    let logarithmic = [
        16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113,
    ];
    for distance in 0..5000_i64 {
        let reached = logarithmic
            .iter()
            .filter(|&&first| first <= distance)
            .count();
        let want = if distance < 16 {
            distance as usize
        } else {
            15 + reached
        };
        assert_eq!(t5::bucket(-distance, &config), want, "-{distance}");
        assert_eq!(t5::bucket(distance, &config), 0, "{distance}");
    }
}

// torch 2.15.0 on a CPU, transformers 5.23.0, one direction: rows of buckets, max_distance, distance
// and what `_relative_position_bucket(torch.tensor([-distance]), False, buckets, max_distance)` gives.
// In real numbers 18 = 8 * (27/8)^(6/9) begins bucket 8 + 6 = 14; in f32 it is still in bucket 13. And
// bucket 41 = 23 + 18 begins at 23 * (164/23)^(18/23) = 107.00002; in f32 it has 107 already.
#[test]
fn borders_are_those_of_transformers_in_f32() {
    for (n_buckets, max_distance, distance, want) in [
        (17, 27, 18, 13),
        (19, 196, 42, 13),
        (48, 81, 54, 39),
        (51, 49, 35, 37),
        (51, 169, 65, 37),
        (46, 164, 107, 41),
        (58, 282, 119, 47),
        (59, 296, 186, 53),
        (9, 128, 8, 5),
        (9, 4096, 1024, 8),
        (54, 64, 36, 36),
    ] {
        let config = T5Config::new(n_buckets, max_distance, T5Direction::Causal).unwrap();
        assert_eq!(
            t5::bucket(-distance, &config),
            want,
            "{config:?} {distance}"
        );
    }
}

// 4 buckets, max_distance 8, one direction: distances 0 and 1 alone, then 2 * 4^(k/2): 2 and 4.
// Queries 2 and 3 of 4 keys: distances 2 1 0 - and 3 2 1 0.
#[test]
fn a_bias_is_read_from_the_table() {
    let config = T5Config::new(4, 8, T5Direction::Causal).unwrap();
    let table = array![[10.0, 100.0], [11.0, 101.0], [12.0, 102.0], [13.0, 103.0]];
    let bias = t5::bias(&table, 2, 4, 2, &config).unwrap();
    let want = array![
        [[12.0, 11.0, 10.0, 10.0], [12.0, 12.0, 11.0, 10.0]],
        [[102.0, 101.0, 100.0, 100.0], [102.0, 102.0, 101.0, 100.0]],
    ];
    assert_eq!(bias, want);
    // The gradient counts how often a row was read, if dbias is 1 everywhere.
    let dtable = t5::backward(&Array3::<f64>::ones((2, 2, 4)), 2, &config).unwrap();
    assert_eq!(
        dtable,
        array![[3.0, 3.0], [2.0, 2.0], [3.0, 3.0], [0.0, 0.0]]
    );
}

#[test]
fn empty_axes_give_empty_results() {
    let config = T5Config::new(4, 8, T5Direction::Bidirectional).unwrap();
    let table = Array2::<f32>::ones((4, 3));
    for (seq, kv_seq) in [(0, 5), (5, 0), (0, 0)] {
        let bias = t5::bias(&table, seq, kv_seq, 7, &config).unwrap();
        assert_eq!(bias.dim(), (3, seq, kv_seq));
        let dtable = t5::backward(&bias, 7, &config).unwrap();
        assert_eq!(dtable, Array2::<f32>::zeros((4, 3)));
    }
}

#[test]
fn nan_stays_in_its_bucket() {
    let config = T5Config::new(4, 8, T5Direction::Causal).unwrap();
    let dtable = t5::backward(&array![[[f64::NAN, 1.0, 1.0]]], 2, &config).unwrap();
    let nan: Vec<bool> = dtable.iter().map(|x| x.is_nan()).collect();
    assert_eq!(nan, [false, false, true, false]);
}
