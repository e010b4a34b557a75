//! Analytic gradients against finite differences of the reference (kerple).

use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_posenc::kerple::{self, KerpleKernel};
use llm_posenc::reference;
use ndarray::{Array1, Array3, array};

#[test]
fn gradients_equal_finite_differences() {
    let r1 = array![0.5, 0.1, 2.0];
    let r2 = array![1.3, 0.2, 1.9];
    for kernel in [KerpleKernel::Logarithmic, KerpleKernel::Power] {
        for (seq, kv_seq) in [(4, 4), (2, 5), (1, 6), (5, 3)] {
            let shape = (3, seq, kv_seq);
            let dbias =
                Array3::from_shape_fn(shape, |(h, i, j)| ((5 * h + 3 * i + j) as f64).cos());
            let loss = |r1: &Array1<f64>, r2: &Array1<f64>| {
                (reference::kerple::bias(r1, r2, seq, kv_seq, kernel) * &dbias).sum()
            };
            let (dr1, dr2) = kerple::backward(&dbias, &r1, &r2, kernel).unwrap();
            let settings = GradientCheck::new();
            assert_gradient(|r1| loss(r1, &r2), &r1, &dr1, &settings);
            assert_gradient(|r2| loss(&r1, r2), &r2, &dr2, &settings);
        }
    }
}
