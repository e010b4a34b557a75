//! The norm of each head.

use llm_attention::differential::head_norm;
use llm_attention::ndarray::{Array4, ShapeBuilder, array};
use llm_attention::{AttentionError, reference};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_numerics::testing::{Tolerance, assert_close};
use proptest::prelude::*;

use crate::cases::close;

/// Rows of at most 9 numbers; one over a root mean square of 1e-2 at least.
const F64: Tolerance = Tolerance::new(1e-11, 1e-11);

fn draw(shape: [usize; 4], key: u64, stream: u64) -> Array4<f64> {
    let random = Philox4x32::new(key);
    let mut i = 0;
    Array4::from_shape_simple_fn(shape, || {
        i += 1;
        f64::from(random.normal_f64(stream, i) as f32)
    })
}

/// `x` and an upstream gradient, of any sizes.
fn cases() -> impl Strategy<Value = (Array4<f64>, Array4<f64>)> {
    let shape = [0_usize..3, 0_usize..4, 0_usize..5, 0_usize..10];
    (shape, any::<u64>()).prop_map(|(shape, key)| (draw(shape, key, 0), draw(shape, key, 1)))
}

proptest! {
    #[test]
    fn equals_the_reference((x, dout) in cases(), init in -0.5_f64..1.5, eps in 1e-4_f64..1.0) {
        let want = reference::differential::head_norm(&x, init, eps).unwrap();
        let want_dx = reference::differential::head_norm_backward(&dout, &x, init, eps).unwrap();
        close(&head_norm::forward(&x, init, eps).unwrap(), &want, F64)?;
        close(&head_norm::backward(&dout, &x, init, eps).unwrap(), &want_dx, F64)?;
        // In f32, rounded once, in another order of axes.
        let mut x32 = Array4::<f32>::zeros(x.dim().f());
        x32.assign(&x.mapv(|x| x as f32));
        let dout32 = dout.mapv(|x| x as f32);
        let tolerance = Tolerance::new(1e-7, 1e-7);
        let got = head_norm::forward(&x32, init, eps).unwrap();
        close(&got.mapv(f64::from), &want, tolerance)?;
        let got = head_norm::backward(&dout32, &x32, init, eps).unwrap();
        close(&got.mapv(f64::from), &want_dx, tolerance)?;
    }

    /// Without `eps` the length of a row does not matter, from the smallest to the largest
    /// numbers, and the mean square of what comes out is `(1 - lambda_init)^2`.
    #[test]
    fn lengths_fall_out((x, _) in cases(), init in -0.5_f64..1.5, power in -900_i32..900) {
        let want = head_norm::forward(&x, init, 0.0).unwrap();
        let got = head_norm::forward(&(&x * 2_f64.powi(power)), init, 0.0).unwrap();
        close(&got, &want, Tolerance::new(1e-14, 1e-14))?;
        for row in want.rows().into_iter().filter(|row| !row.is_empty()) {
            let mean = row.dot(&row) / row.len() as f64;
            prop_assert!((mean - (1.0 - init).powi(2)).abs() < 1e-13);
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let (x, dout) = (draw([2, 2, 2, 5], 4, 0), draw([2, 2, 2, 5], 4, 1));
    for eps in [0.0, 1e-5, 0.5] {
        let loss = |x: &Array4<f64>| {
            (reference::differential::head_norm(x, 0.3, eps).unwrap() * &dout).sum()
        };
        for got in [
            head_norm::backward(&dout, &x, 0.3, eps).unwrap(),
            reference::differential::head_norm_backward(&dout, &x, 0.3, eps).unwrap(),
        ] {
            assert_gradient(loss, &x, &got, &GradientCheck::new());
        }
    }
}

// Mean square (9 + 16) / 2 = 12.5, and 12.5 + 3.5 = 16: one quarter, times 1 - 0.2.
#[test]
fn one_by_hand() {
    let got = head_norm::forward(&array![[[[3.0, 4.0]]]], 0.2, 3.5).unwrap();
    assert_close(&got, &array![[[[0.6, 0.8]]]], Tolerance::new(1e-15, 0.0));
}

#[test]
fn rows_of_zeros_and_of_no_numbers() {
    let zeros = Array4::<f32>::zeros((1, 1, 1, 3));
    assert_eq!(head_norm::forward(&zeros, 0.2, 1e-5).unwrap(), zeros);
    let got = head_norm::forward(&zeros, 0.2, 0.0).unwrap();
    assert!(got.iter().all(|x| x.is_nan()));
    for bad in [f32::NAN, f32::INFINITY] {
        let x = array![[[[1.0, bad, 2.0], [1.0, 1.0, 1.0]]]];
        let got = head_norm::forward(&x, 0.0, 0.0).unwrap();
        assert!(got[[0, 0, 0, 1]].is_nan());
        assert_eq!(got[[0, 0, 1, 0]], 1.0); // the other rows do not see it
    }
}

#[test]
fn numbers_must_be_finite() {
    let x = Array4::<f64>::ones((1, 1, 1, 2));
    for eps in [-1.0, f64::INFINITY] {
        let want = AttentionError::Eps { got: eps };
        assert_eq!(head_norm::forward(&x, 0.2, eps).unwrap_err(), want);
        assert_eq!(head_norm::backward(&x, &x, 0.2, eps).unwrap_err(), want);
        assert_eq!(
            reference::differential::head_norm(&x, 0.2, eps).unwrap_err(),
            want
        );
    }
    assert!(matches!(
        head_norm::forward(&x, 0.2, f64::NAN),
        Err(AttentionError::Eps { got }) if got.is_nan()
    ));
    let want = AttentionError::LambdaInit { got: f64::INFINITY };
    assert_eq!(
        head_norm::forward(&x, f64::INFINITY, 0.0).unwrap_err(),
        want
    );
    assert_eq!(
        head_norm::backward(&x, &x, f64::INFINITY, 0.0).unwrap_err(),
        want
    );
    let got = reference::differential::head_norm_backward(&x, &x, f64::INFINITY, 0.0);
    assert_eq!(got.unwrap_err(), want);
    assert_eq!(
        AttentionError::Eps { got: -1.0 }.to_string(),
        "eps must be finite and not negative, got -1"
    );
    assert_eq!(want.to_string(), "lambda_init must be finite, got inf");
}

#[test]
fn upstream_gradients_must_fit() {
    let (x, dout) = (
        Array4::<f64>::ones((1, 1, 1, 2)),
        Array4::ones((1, 1, 1, 3)),
    );
    let want = AttentionError::Shape {
        name: "dout",
        expected: [1, 1, 1, 2],
        got: [1, 1, 1, 3],
    };
    assert_eq!(head_norm::backward(&dout, &x, 0.2, 0.0).unwrap_err(), want);
    let got = reference::differential::head_norm_backward(&dout, &x, 0.2, 0.0);
    assert_eq!(got.unwrap_err(), want);
}

/// Large enough to wake threads: one, two or three of them give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let x = draw([2, 3, 200, 256], 6, 0);
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        pool.unwrap().install(|| {
            let y = head_norm::forward(&x, 0.2, 1e-5).unwrap();
            let dx = head_norm::backward(&y, &x, 0.2, 1e-5).unwrap();
            (y, dx)
        })
    };
    let want = run(1);
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
    let row: ndarray::ArrayView1<'_, f64> = x.slice(ndarray::s![1, 2, 150, ..]);
    let root = (row.dot(&row) / 256.0 + 1e-5).sqrt();
    assert!((want.0[[1, 2, 150, 7]] - 0.8 * row[7] / root).abs() < 1e-14);
}
