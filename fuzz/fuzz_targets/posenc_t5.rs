//! T5's buckets with any settings and distances: a bucket of the table, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::t5::{self, MAX_BUCKETS, T5Config, T5Direction};
use ndarray::Array2;

fuzz_target!(|input: (usize, usize, [u8; 4], usize, Vec<i64>, f32)| {
    let (mut n_buckets, max_distance, [flags, heads, queries, keys], past, distances, value) =
        input;
    if flags & 2 != 0 {
        n_buckets %= 256; // else nearly all are refused
    }
    let direction = if flags & 1 == 0 {
        T5Direction::Causal
    } else {
        T5Direction::Bidirectional
    };
    let Ok(config) = T5Config::new(n_buckets, max_distance, direction) else {
        return;
    };
    assert!(n_buckets <= MAX_BUCKETS);
    let edges = [0, 1, -1, i64::MIN, i64::MAX];
    for distance in distances.into_iter().chain(edges) {
        assert!(t5::bucket(distance, &config) < n_buckets);
    }
    if n_buckets <= 256 {
        let shape = (
            usize::from(heads % 8),
            usize::from(queries % 32),
            usize::from(keys % 32),
        );
        let table = Array2::from_elem((n_buckets, shape.0), value);
        if let Ok(bias) = t5::bias(&table, shape.1, shape.2, past, &config) {
            assert_eq!(bias.dim(), shape);
            let gradient = t5::backward(&bias, past, &config);
            assert!(gradient.is_ok_and(|gradient| gradient.dim() == table.dim()));
        }
    }
});
