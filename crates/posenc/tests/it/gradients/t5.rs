//! Analytic gradients against finite differences of the reference (t5).

use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_posenc::reference;
use llm_posenc::t5::{self, T5Config, T5Direction};
use ndarray::{Array2, Array3};

#[test]
fn gradients_equal_finite_differences() {
    for direction in [T5Direction::Bidirectional, T5Direction::Causal] {
        let config = T5Config::new(8, 12, direction).unwrap();
        let table = Array2::from_shape_fn((8, 2), |(b, h)| ((3 * b + h) as f64).sin());
        for (seq, kv_seq, past) in [(9, 9, 0), (2, 20, 18), (1, 7, 6), (4, 3, 1)] {
            let shape = (2, seq, kv_seq);
            let dbias =
                Array3::from_shape_fn(shape, |(h, i, j)| ((5 * h + 3 * i + j) as f64).cos());
            let loss = |table: &Array2<f64>| {
                (reference::t5::bias(table, seq, kv_seq, past, &config) * &dbias).sum()
            };
            for got in [
                t5::backward(&dbias, past, &config).unwrap(),
                reference::t5::backward(&dbias, past, &config),
            ] {
                assert_gradient(loss, &table, &got, &GradientCheck::new());
            }
        }
    }
}
