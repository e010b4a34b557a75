//! `gradient::check`.

use llm_numerics::testing::Tolerance;
use llm_numerics::testing::gradient::{GradientCheck, GradientError, assert_gradient, check};
use ndarray::{Array1, Array2, ArrayD, IxDyn, array};
use proptest::prelude::*;

/// Σ x³ / 3 + x₀ x₁, gradient x² + (x₁, x₀, 0, …).
fn f(x: &Array1<f64>) -> f64 {
    x.mapv(|v| v * v * v / 3.0).sum() + x[0] * x[1]
}

fn df(x: &Array1<f64>) -> Array1<f64> {
    let mut gradient = x.mapv(|v| v * v);
    gradient[0] += x[1];
    gradient[1] += x[0];
    gradient
}

#[test]
fn a_right_gradient_passes_in_both_forms() {
    let x = array![0.5, -1.5, 2.0];
    let plain = check(f, &x, &df(&x), &GradientCheck::new()).unwrap();
    let extrapolated = check(f, &x, &df(&x), &GradientCheck::new().with_richardson()).unwrap();
    assert_eq!((plain.checked, extrapolated.checked), (3, 3));
    assert!(plain.worst_abs < 1e-9 && plain.worst_ratio <= 1.0);
    assert!(extrapolated.worst_abs < 1e-11, "{}", extrapolated.worst_abs);
}

#[test]
fn any_number_of_axes_works_and_the_input_stays() {
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 2, 1]), vec![0.3, 0.4]).unwrap();
    let mut seen = Vec::new();
    let sum_of_squares = |x: &ArrayD<f64>| {
        seen.push(x.clone());
        x.mapv(|v| v * v).sum()
    };
    assert_gradient(sum_of_squares, &x, &(&x * 2.0), &GradientCheck::new());
    assert_eq!(seen.len(), 4);
    // One element moves at a time; the other is restored.
    assert!(
        seen.iter()
            .all(|probe| probe[[0, 0, 0]] == 0.3 || probe[[0, 1, 0]] == 0.4)
    );

    let t = array![[1.0, 2.0], [3.0, 4.0]];
    assert_gradient(
        |x: &Array2<f64>| x[[0, 1]] * 5.0,
        &t.t(),
        &array![[0.0, 5.0], [0.0, 0.0]],
        &GradientCheck::new(),
    );
}

#[test]
fn a_wrong_gradient_is_named() {
    let x = array![0.5, -1.5, 2.0];
    let mut wrong = df(&x);
    wrong[2] += 1e-3;
    let error = check(f, &x, &wrong, &GradientCheck::new()).unwrap_err();
    let GradientError::Mismatch {
        index,
        numeric,
        analytic,
        mismatches: 1,
        checked: 3,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(index, &[2]);
    assert!((numeric - 4.0).abs() < 1e-8);
    assert_eq!(*analytic, 4.001);
    assert!(error.to_string().contains("[2]") && error.to_string().contains("4.001"));
}

#[test]
fn scale_sign_and_order_errors_are_rejected() {
    let x = array![0.5, -1.5, 2.0];
    let right = df(&x);
    let reversed = right.slice(ndarray::s![..;-1]).to_owned();
    for wrong in [
        &right * 1.0001,
        -&right,
        right.mapv(|_| 0.0),
        reversed,
        right.mapv(|_| f64::NAN),
        right.mapv(|_| f64::INFINITY),
    ] {
        for config in [GradientCheck::new(), GradientCheck::new().with_richardson()] {
            assert!(
                matches!(
                    check(f, &x, &wrong, &config),
                    Err(GradientError::Mismatch { .. })
                ),
                "{wrong}"
            );
        }
    }
}

#[test]
fn one_nan_is_named_even_beside_larger_errors() {
    let x = array![0.5, -1.5, 2.0];
    let error = check(f, &x, &array![1e9, f64::NAN, 0.0], &GradientCheck::new()).unwrap_err();
    assert!(
        matches!(error, GradientError::Mismatch { ref index, mismatches: 3, .. } if index == &[1]),
        "{error}"
    );
}

#[test]
fn inputs_that_cannot_be_checked_are_errors() {
    let x = array![0.5, -1.5];
    let g = df(&x);
    let with = |config: GradientCheck| check(f, &x, &g, &config).unwrap_err();
    assert_eq!(
        check(f, &x, &array![1.0], &GradientCheck::new()).unwrap_err(),
        GradientError::Shape {
            x: vec![2],
            analytic: vec![1]
        }
    );
    assert_eq!(
        with(GradientCheck::new().with_step(0.0)),
        GradientError::Step(0.0)
    );
    assert_eq!(
        with(GradientCheck::new().with_step(-1.0)),
        GradientError::Step(-1.0)
    );
    assert!(matches!(
        with(GradientCheck::new().with_step(f64::NAN)),
        GradientError::Step(_)
    ));
    assert!(matches!(
        with(GradientCheck::new().with_step(1e-20)),
        GradientError::Step(_)
    ));
    assert_eq!(
        with(GradientCheck::new().with_max_elements(0)),
        GradientError::NoElements
    );
    assert!(matches!(
        check(f, &array![0.0, f64::NAN], &g, &GradientCheck::new()),
        Err(GradientError::NotFinite { ref index, value }) if index == &[1] && value.is_nan()
    ));
    let root = |x: &Array1<f64>| x.mapv(f64::sqrt).sum();
    assert!(matches!(
        check(root, &array![1.0, 0.0], &array![0.5, 0.0], &GradientCheck::new()),
        Err(GradientError::NotFinite { ref index, .. }) if index == &[1]
    ));
}

#[test]
#[should_panic(expected = "1 of 1 elements differ, worst at [0]: analytic 3")]
fn assert_gradient_panics() {
    assert_gradient(
        |x: &Array1<f64>| x[0] * x[0],
        &array![1.0],
        &array![3.0],
        &GradientCheck::new(),
    );
}

#[test]
fn an_empty_input_has_nothing_to_check() {
    let none = Array1::<f64>::zeros(0);
    assert_eq!(
        check(
            |_| 1.0,
            &none,
            &none,
            &GradientCheck::new().with_max_elements(1)
        )
        .unwrap()
        .checked,
        0
    );
}

/// The elements that `max_elements` leaves, seen by what the function was asked.
fn probed(len: usize, most: usize) -> Vec<usize> {
    let mut seen = Vec::new();
    let note = |x: &Array1<f64>| {
        seen.extend(x.iter().position(|&v| v != 0.0));
        0.0
    };
    let zeros = Array1::zeros(len);
    check(
        note,
        &zeros,
        &zeros,
        &GradientCheck::new().with_max_elements(most),
    )
    .unwrap();
    seen.dedup();
    seen
}

#[test]
fn elements_are_spread_from_the_first_to_the_last() {
    assert_eq!(probed(5, 9), [0, 1, 2, 3, 4]);
    assert_eq!(probed(5, 5), [0, 1, 2, 3, 4]);
    assert_eq!(probed(9, 3), [0, 4, 8]);
    assert_eq!(probed(10, 4), [0, 3, 6, 9]);
    assert_eq!(probed(5, 2), [0, 4]);
    assert_eq!(probed(5, 1), [0]);
}

proptest! {
    /// A quadratic form has gradient (A + Aᵀ) x; a change of 1 in one element of it is found there.
    #[test]
    fn quadratic_forms(values in prop::collection::vec(-2.0..2.0_f64, 16), x in prop::collection::vec(-2.0..2.0_f64, 4), at in 0..4_usize) {
        let a = Array2::from_shape_vec((4, 4), values).unwrap();
        let x = Array1::from(x);
        let form = |x: &Array1<f64>| x.dot(&a.dot(x));
        let gradient = (&a + &a.t()).dot(&x);
        for config in [GradientCheck::new(), GradientCheck::new().with_richardson()] {
            let config = config.with_tolerance(Tolerance::new(1e-8, 1e-8));
            prop_assert!(check(form, &x, &gradient, &config).is_ok());
            let mut wrong = gradient.clone();
            wrong[at] += 1.0;
            let found = check(form, &x, &wrong, &config);
            prop_assert!(matches!(&found, Err(GradientError::Mismatch { index, mismatches: 1, .. }) if index == &[at]), "{:?}", found);
        }
    }
}
