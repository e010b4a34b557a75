//! Analytic gradients against finite differences of the reference (alibi).

use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_posenc::alibi::{self, AlibiOrigin, AlibiRounding};
use llm_posenc::reference;
use ndarray::{Array3, Array4, array};

#[test]
fn gradients_equal_finite_differences() {
    let slopes = array![0.5, 0.03, 1.7];
    for origin in [
        AlibiOrigin::KeyIndex,
        AlibiOrigin::LastKeyZero,
        AlibiOrigin::AbsoluteDistance,
        AlibiOrigin::SignedDistance,
        AlibiOrigin::PastDistance,
    ] {
        for (seq, kv_seq) in [(4, 4), (2, 5), (1, 6), (5, 3)] {
            let shape = (3, seq, kv_seq);
            let dbias =
                Array3::from_shape_fn(shape, |(h, i, j)| ((5 * h + 3 * i + j) as f64).cos());
            let got = alibi::backward(&dbias, origin).unwrap();
            assert_gradient(
                |slopes| (reference::alibi::bias(slopes, seq, kv_seq, origin) * &dbias).sum(),
                &slopes,
                &got,
                &GradientCheck::new(),
            );
        }
    }
}

#[test]
fn gradients_of_padded_batches_equal_finite_differences() {
    let slopes = array![0.5, 0.03];
    let mask = array![[false, false, true, true], [true, false, true, true]];
    let positions = alibi::key_positions(&mask).unwrap();
    let exact = reference::alibi::key_positions(&mask);
    let dbias = Array4::from_shape_fn((2, 2, 3, 4), |(b, h, i, j)| {
        ((7 * b + 5 * h + 3 * i + j) as f64).cos()
    });
    let got = alibi::backward_at(&dbias, &positions).unwrap();
    assert_gradient(
        |slopes| {
            let bias = reference::alibi::bias_at(slopes, &exact, AlibiRounding::Product);
            (&dbias * &bias).sum() // one bias for three queries
        },
        &slopes,
        &got,
        &GradientCheck::new(),
    );
}
