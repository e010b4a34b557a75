//! `Tolerance`, `compare`, `assert_close`.

use llm_numerics::testing::{Mismatch, Tolerance, assert_close, compare};
use ndarray::{Array, Array2, array, s};
use proptest::prelude::*;

const INF: f64 = f64::INFINITY;
const WIDE: Tolerance = Tolerance::new(1e300, 1e300);

#[test]
fn accepts_up_to_the_sum_of_both_parts() {
    let tolerance = Tolerance::new(0.5, 0.25);
    assert!(tolerance.accepts(10.0, 7.625)); // 2.375 of 0.5 + 1.90625
    assert!(tolerance.accepts(3.5, 4.0));
    assert!(tolerance.accepts(5.5, 4.0)); // 1.5 of 0.5 + 1.0: the bound itself
    assert!(!tolerance.accepts(5.5625, 4.0));
    assert!(!tolerance.accepts(-4.0, 4.0));
    assert!(Tolerance::exact().accepts(0.0, -0.0));
    assert!(!Tolerance::exact().accepts(1.0, 1.0 + f64::EPSILON));
}

#[test]
fn nan_is_close_to_nothing_and_infinity_only_to_itself() {
    for other in [0.0, 1.0, -1.0, f64::MAX, INF, -INF, f64::NAN] {
        assert!(!WIDE.accepts(f64::NAN, other));
        assert!(!WIDE.accepts(other, f64::NAN));
        assert_eq!(WIDE.accepts(other, INF), other == INF);
        assert_eq!(WIDE.accepts(INF, other), other == INF);
        assert_eq!(WIDE.accepts(-INF, other), other == -INF);
    }
}

#[test]
fn a_broken_tolerance_accepts_equal_values_only() {
    for broken in [
        Tolerance::new(f64::NAN, 0.0),
        Tolerance::new(0.0, f64::NAN),
        Tolerance::new(-1.0, 0.0),
    ] {
        assert!(broken.accepts(1.0, 1.0));
        assert!(!broken.accepts(1.0, 1.5));
    }
    // A tolerance of infinity is of no use against an infinity.
    assert!(!Tolerance::new(INF, 0.0).accepts(INF, 1.0));
}

#[test]
fn compare_reports_the_worst_place() {
    let want = array![[1.0_f64, 2.0], [4.0, 100.0]];
    let got = array![[1.0_f32, 2.25], [4.0, 101.0]];
    let found = compare(&got, &want, Tolerance::new(0.5, 0.5)).unwrap();
    assert_eq!((found.count, found.worst_abs), (4, 1.0)); // at [1, 1]
    assert_eq!(found.worst_ratio, 0.25 / 1.5); // at [0, 1]
    let worst = found.worst.unwrap();
    assert_eq!(
        (worst.index, worst.got, worst.want, worst.allowed),
        (vec![0, 1], 2.25, 2.0, 1.5)
    );
}

#[test]
fn compare_rejects_values_and_says_how_many() {
    let error = compare(
        &array![[1.0, 2.0, 3.0], [4.0, 5.5, 7.0]],
        &array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        Tolerance::new(0.1, 0.0),
    );
    let Err(Mismatch::Values {
        mismatches,
        shape,
        comparison,
        ..
    }) = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((*mismatches, shape.as_slice()), (2, [2, 3].as_slice()));
    assert_eq!(comparison.worst.as_ref().unwrap().index, [1, 2]);
    let text = error.unwrap_err().to_string();
    for part in ["2 of 6", "[2, 3]", "[1, 2]", "7.0", "6.0"] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
}

#[test]
fn one_nan_among_good_values_is_the_worst() {
    for (got, want) in [
        (f64::NAN, 1.0),
        (1.0, f64::NAN),
        (f64::NAN, f64::NAN),
        (INF, 1.0),
        (-INF, INF),
        (1.0, INF),
    ] {
        let error = compare(
            &array![2.0, got, 3.0],
            &array![2.5, want, 2.5],
            Tolerance::new(1.0, 1.0),
        );
        let Err(Mismatch::Values {
            mismatches: 1,
            comparison,
            ..
        }) = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(comparison.worst.as_ref().unwrap().index, [1]);
        assert_eq!((comparison.worst_abs, comparison.worst_ratio), (INF, INF));
    }
}

#[test]
fn nothing_is_broadcast() {
    let want = Array2::<f64>::zeros((2, 3));
    let shape = |got: &[usize]| Mismatch::Shape {
        got: got.to_vec(),
        want: vec![2, 3],
    };
    assert_eq!(
        compare(&Array2::<f64>::zeros((1, 3)), &want, WIDE),
        Err(shape(&[1, 3]))
    );
    assert_eq!(
        compare(&Array2::<f64>::zeros((3, 2)), &want, WIDE),
        Err(shape(&[3, 2]))
    );
    assert_eq!(
        compare(&Array::<f64, _>::zeros(6), &want, WIDE),
        Err(shape(&[6]))
    );
    assert_eq!(
        compare(&Array::<f64, _>::zeros((0, 3)), &want, WIDE),
        Err(shape(&[0, 3]))
    );
    assert!(shape(&[6]).to_string().contains("[2, 3], got [6]"));
}

#[test]
fn empty_and_strided_arrays_compare() {
    let empty = compare(
        &Array2::<f32>::zeros((0, 3)),
        &Array2::<f64>::zeros((0, 3)),
        Tolerance::exact(),
    )
    .unwrap();
    assert_eq!((empty.count, empty.worst), (0, None));
    let a = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    assert_close(
        &a.t(),
        &array![[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]],
        Tolerance::exact(),
    );
    assert_close(
        &a.slice(s![.., ..;-2]),
        &array![[3, 1], [6, 4]],
        Tolerance::exact(),
    );
    assert_close(&a, &a.clone().into_dyn(), Tolerance::exact());
    assert_close(
        &ndarray::arr0(2.0),
        &ndarray::arr0(2.0_f32),
        Tolerance::exact(),
    );
}

#[test]
#[should_panic(expected = "1 of 2 outside (shape [2]); worst at [1]: got 2.5, want 2.0")]
fn assert_close_panics_with_the_place() {
    assert_close(
        &array![1.0, 2.5],
        &array![1.0, 2.0],
        Tolerance::new(0.0, 1e-3),
    );
}

#[test]
#[should_panic(expected = "shape must be [2], got [1]")]
fn assert_close_panics_on_shapes() {
    assert_close(&array![1.0], &array![1.0, 2.0], WIDE);
}

proptest! {
    /// An array is accepted if and only if each of its pairs is, and never with a ratio above 1.
    #[test]
    fn compare_agrees_with_accepts(
        pairs in prop::collection::vec((any::<f64>(), any::<f64>(), any::<bool>()), 0..20),
        abs in 0.0..1e10, rel in 0.0..2.0,
    ) {
        let tolerance = Tolerance::new(abs, rel);
        // Half of the pairs are near each other: two arbitrary numbers hardly ever are.
        let got: Vec<f64> = pairs.iter().map(|&(a, b, near)| if near { b + abs * 0.9 } else { a }).collect();
        let want: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        let wrong = got.iter().zip(&want).filter(|(got, want)| !tolerance.accepts(**got, **want)).count();
        match compare(&Array::from(got), &Array::from(want), tolerance) {
            Ok(found) => prop_assert!(wrong == 0 && found.worst_ratio <= 1.0),
            Err(Mismatch::Values { mismatches, comparison, .. }) => {
                prop_assert_eq!(mismatches, wrong);
                prop_assert!(comparison.worst_ratio > 1.0);
                let worst = comparison.worst.unwrap();
                prop_assert!(!tolerance.accepts(worst.got, worst.want));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
