//! The weight of the second softmax.

use llm_attention::differential::lambda;
use llm_attention::ndarray::{Array1, ArrayRef1, array};
use llm_attention::{AttentionError, reference};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::Tolerance;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use proptest::prelude::*;

use crate::cases::close;

/// Products of 10 at most, so `e` to them errs by 1e-14 of itself.
const F64: Tolerance = Tolerance::new(1e-12, 1e-12);

fn vectors(head_dim: usize, key: u64) -> [Array1<f64>; 4] {
    let random = Philox4x32::new(key);
    [0, 1, 2, 3].map(|stream| {
        Array1::from_shape_fn(head_dim, |i| 0.5 * random.normal_f64(stream, i as u64))
    })
}

proptest! {
    #[test]
    fn equals_the_reference(head_dim in 0_usize..20, key in any::<u64>(), init in -1.0_f64..1.0) {
        let [q1, k1, q2, k2] = vectors(head_dim, key);
        let (q, k): ([&ArrayRef1<f64>; 2], [&ArrayRef1<f64>; 2]) = ([&q1, &q2], [&k1, &k2]);
        let want = reference::differential::lambda(q, k, init).unwrap();
        let got = lambda::forward(q, k, init).unwrap();
        prop_assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0));
        let want_grads = reference::differential::lambda_backward(0.7, q, k).unwrap();
        let got = lambda::backward(0.7, q, k).unwrap();
        for m in [0, 1] {
            close(&got.dq[m], &want_grads.dq[m], F64)?;
            close(&got.dk[m], &want_grads.dk[m], F64)?;
        }
        // In f32: the vectors themselves are rounded.
        let [q1, k1, q2, k2] = [&q1, &k1, &q2, &k2].map(|x| x.mapv(|x| x as f32));
        let got = lambda::forward([&q1, &q2], [&k1, &k2], init).unwrap();
        prop_assert!((f64::from(got) - want).abs() <= 1e-4 * want.abs().max(1.0));
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let x = vectors(5, 3);
    let loss = |x: &[Array1<f64>; 4]| {
        let [q1, k1, q2, k2] = x;
        1.7 * reference::differential::lambda([q1, q2], [k1, k2], 0.4).unwrap()
    };
    let [q1, k1, q2, k2] = &x;
    for got in [
        lambda::backward(1.7, [q1, q2], [k1, k2]).unwrap(),
        reference::differential::lambda_backward(1.7, [q1, q2], [k1, k2]).unwrap(),
    ] {
        let [dq1, dq2] = &got.dq;
        let [dk1, dk2] = &got.dk;
        for (m, dx) in [dq1, dk1, dq2, dk2].into_iter().enumerate() {
            let f = |y: &Array1<f64>| {
                let mut x = x.clone();
                x[m] = y.clone();
                loss(&x)
            };
            assert_gradient(f, &x[m], dx, &GradientCheck::new());
        }
    }
}

// e^(1 * 2) - e^(3 * -1) + 0.2
#[test]
fn one_by_hand() {
    let got = lambda::forward(
        [&array![1.0], &array![3.0]],
        [&array![2.0], &array![-1.0]],
        0.2,
    );
    let want = std::f64::consts::E.powi(2) - 1.0 / std::f64::consts::E.powi(3) + 0.2;
    assert!((got.unwrap() - want).abs() < 1e-14);
}

// 0.8 - 0.6 = 0.2, 0.8 - 0.6 e^-0.3 = 0.355509..., towards 0.8.
#[test]
fn starting_points() {
    assert!((lambda::init(0) - 0.2).abs() < 1e-15);
    assert!((lambda::init(1) - 0.355_509_067_590_969).abs() < 1e-14);
    assert!((lambda::init(usize::MAX) - 0.8).abs() < 1e-15);
}

#[test]
fn vectors_must_have_one_length() {
    let (two, three) = (array![1.0, 2.0], array![1.0, 2.0, 3.0]);
    let want = AttentionError::LambdaVectors { got: [2, 2, 2, 3] };
    let (q, k): ([&ArrayRef1<f64>; 2], [&ArrayRef1<f64>; 2]) = ([&two, &two], [&two, &three]);
    assert_eq!(lambda::forward(q, k, 0.2).unwrap_err(), want);
    assert_eq!(lambda::backward(1.0, q, k).unwrap_err(), want);
    assert_eq!(
        reference::differential::lambda(q, k, 0.2).unwrap_err(),
        want
    );
    assert_eq!(
        reference::differential::lambda_backward(1.0, q, k).unwrap_err(),
        want
    );
    assert_eq!(
        want.to_string(),
        "q[0], k[0], q[1] and k[1] must have the same length, got [2, 2, 2, 3]"
    );
}
