//! One test for each error variant (t5).

use llm_posenc::PosencError;
use llm_posenc::t5::{self, MAX_BUCKETS, T5Config, T5Direction};
use ndarray::{Array2, Array3, array};

#[test]
fn buckets_must_be_enough_and_split_evenly() {
    let minimum = 4;
    for got in [0, 1, 2, 3, 5, 33, MAX_BUCKETS + 2, usize::MAX] {
        let error = T5Config::new(got, 1 << 20, T5Direction::Bidirectional).unwrap_err();
        assert_eq!(error, PosencError::T5Buckets { minimum, got });
    }
    let minimum = 2;
    for got in [0, 1, MAX_BUCKETS + 1, usize::MAX] {
        let error = T5Config::new(got, 1 << 20, T5Direction::Causal).unwrap_err();
        assert_eq!(error, PosencError::T5Buckets { minimum, got });
    }
    assert!(T5Config::new(7, 20, T5Direction::Causal).is_ok());
    let message = PosencError::T5Buckets { minimum: 4, got: 5 }.to_string();
    let want = "n_buckets must be in 4..=65536, and even with two directions, got 5";
    assert_eq!(message, want);
}

#[test]
fn max_distance_must_leave_room_for_the_logarithm() {
    for (direction, exact) in [(T5Direction::Bidirectional, 8), (T5Direction::Causal, 16)] {
        for got in [0, 1, exact] {
            let error = T5Config::new(32, got, direction).unwrap_err();
            assert_eq!(error, PosencError::T5MaxDistance { exact, got });
        }
        assert!(T5Config::new(32, exact + 1, direction).is_ok());
    }
}

#[test]
fn the_table_must_have_a_row_for_each_bucket() {
    let config = T5Config::new(8, 20, T5Direction::Causal).unwrap();
    for got in [0, 7, 9] {
        let error = t5::bias(&Array2::<f32>::zeros((got, 2)), 3, 3, 0, &config).unwrap_err();
        assert_eq!(error, PosencError::T5Table { expected: 8, got });
    }
}

#[test]
fn there_must_be_heads() {
    let config = T5Config::new(8, 20, T5Direction::Causal).unwrap();
    let want = PosencError::Heads { got: 0 };
    assert_eq!(
        t5::bias(&Array2::<f32>::zeros((8, 0)), 3, 3, 0, &config),
        Err(want.clone())
    );
    let dbias = Array3::<f32>::zeros((0, 3, 3));
    assert_eq!(t5::backward(&dbias, 0, &config), Err(want.clone()));
}

#[test]
fn a_bias_must_fit_into_memory() {
    let config = T5Config::new(2, 20, T5Direction::Causal).unwrap();
    let table = array![[0.0_f32], [1.0]];
    for (seq, kv_seq) in [
        (usize::MAX, usize::MAX),
        (1 << 31, 1 << 31),
        (1 << 29, 1 << 29),
        (0, usize::MAX),
    ] {
        let shape = [1, seq, kv_seq];
        let error = t5::bias(&table, seq, kv_seq, 0, &config).unwrap_err();
        assert_eq!(error, PosencError::BiasTooLarge { shape });
    }
}

#[test]
fn far_positions_do_not_overflow() {
    for direction in [T5Direction::Bidirectional, T5Direction::Causal] {
        let config = T5Config::new(32, 128, direction).unwrap();
        let far = config.n_directed() - 1;
        assert_eq!(t5::bucket(i64::MIN, &config), far);
        assert_eq!(t5::bucket(-i64::MAX, &config), far);
        let last = match direction {
            T5Direction::Causal => 0,
            _ => 31,
        };
        assert_eq!(t5::bucket(i64::MAX, &config), last);
        let table = Array2::from_shape_fn((32, 1), |(b, _)| b as f32);
        let bias = t5::bias(&table, 1, 2, usize::MAX, &config).unwrap();
        assert_eq!(bias, Array3::from_elem((1, 1, 2), far as f32));
        // The largest settings that there are.
        let config = T5Config::new(MAX_BUCKETS, usize::MAX, direction).unwrap();
        assert!(t5::bucket(i64::MIN, &config) < config.n_directed());
    }
}
