//! The gradient of a learned table against finite differences of the reference.

use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_posenc::{learned, reference};
use ndarray::{Array2, Array3, array};

// Row 1 occurs three times, in both sequences; row 3 never.
#[test]
fn the_gradient_of_the_table_is_right() {
    let positions = array![[1, 0, 1], [4, 2, 1]];
    let table = Array2::from_shape_fn((5, 3), |(p, j)| ((3 * p + j) as f64).sin());
    let dout = Array3::from_shape_fn((2, 3, 3), |(b, t, j)| ((9 * b + 3 * t + j) as f64).cos());
    let f = |table: &Array2<f64>| {
        (&reference::learned::embed(table, &positions).unwrap() * &dout).sum()
    };
    let config = GradientCheck::new();
    let fast = learned::backward(&dout, &positions, 5).unwrap();
    assert_gradient(f, &table, &fast, &config);
    let textbook = reference::learned::backward(&dout, &positions, 5).unwrap();
    assert_gradient(f, &table, &textbook, &config);
}
