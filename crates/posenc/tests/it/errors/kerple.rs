//! One test for each error variant (kerple).

use llm_posenc::PosencError;
use llm_posenc::kerple::{self, KerpleKernel};
use ndarray::{Array1, Array3, array};

const KERNELS: [KerpleKernel; 2] = [KerpleKernel::Logarithmic, KerpleKernel::Power];

#[test]
fn r1_must_be_positive_and_finite() {
    for kernel in KERNELS {
        for got in [0.0, -1.0, f64::INFINITY] {
            let (r1, r2) = (array![1.0, got], array![1.0, 1.0]);
            let want = PosencError::KerpleR1 { head: 1, got };
            assert_eq!(kerple::bias(&r1, &r2, 2, 2, kernel), Err(want.clone()));
            let dbias = Array3::zeros((2, 2, 2));
            assert_eq!(
                kerple::backward(&dbias, &r1, &r2, kernel),
                Err(want.clone())
            );
        }
        let error = kerple::bias(&array![f32::NAN], &array![1.0], 2, 2, kernel).unwrap_err();
        assert!(matches!(error, PosencError::KerpleR1 { head: 0, got } if got.is_nan()));
    }
}

#[test]
fn r2_must_be_positive_and_finite_and_at_most_2_in_a_power() {
    let r1 = array![1.0];
    for (kernel, maximum) in [
        (KerpleKernel::Logarithmic, f64::INFINITY),
        (KerpleKernel::Power, 2.0),
    ] {
        for got in [0.0, -0.5, f64::INFINITY] {
            let error = kerple::bias(&r1, &array![got], 2, 2, kernel).unwrap_err();
            assert_eq!(
                error,
                PosencError::KerpleR2 {
                    head: 0,
                    maximum,
                    got
                }
            );
        }
        let error = kerple::bias(&r1, &array![f64::NAN], 2, 2, kernel).unwrap_err();
        assert!(matches!(error, PosencError::KerpleR2 { got, .. } if got.is_nan()));
    }
    let got = 2.0_f64.next_up();
    let error = kerple::bias(&r1, &array![got], 2, 2, KerpleKernel::Power).unwrap_err();
    assert_eq!(
        error,
        PosencError::KerpleR2 {
            head: 0,
            maximum: 2.0,
            got
        }
    );
    assert!(kerple::bias(&r1, &array![2.0], 2, 2, KerpleKernel::Power).is_ok());
    assert!(kerple::bias(&r1, &array![2.5], 2, 2, KerpleKernel::Logarithmic).is_ok());
}

#[test]
fn arguments_must_have_the_same_heads() {
    let (one, two) = (array![1.0], array![1.0, 1.0]);
    for kernel in KERNELS {
        let want = PosencError::BiasHeads {
            name: "r2",
            expected: 1,
            got: 2,
        };
        assert_eq!(kerple::bias(&one, &two, 3, 3, kernel), Err(want.clone()));
        let dbias = Array3::zeros((3, 2, 2));
        let want = PosencError::BiasHeads {
            name: "dbias",
            expected: 2,
            got: 3,
        };
        assert_eq!(
            kerple::backward(&dbias, &two, &two, kernel),
            Err(want.clone())
        );
    }
}

#[test]
fn there_must_be_heads() {
    let none = Array1::<f32>::zeros(0);
    for kernel in KERNELS {
        let want = PosencError::Heads { got: 0 };
        assert_eq!(kerple::bias(&none, &none, 3, 3, kernel), Err(want.clone()));
    }
}

#[test]
fn a_bias_must_fit_into_memory() {
    let one = array![1.0_f32];
    for (seq, kv_seq) in [(usize::MAX, 2), (1 << 29, 1 << 29), (0, usize::MAX)] {
        let error = kerple::bias(&one, &one, seq, kv_seq, KerpleKernel::Power).unwrap_err();
        let shape = [1, seq, kv_seq];
        assert_eq!(error, PosencError::BiasTooLarge { shape });
    }
}

#[test]
fn the_range_of_r2_depends_on_the_kernel() {
    let message = |kernel, r2| {
        let error = kerple::bias(&array![1.0], &array![r2], 1, 1, kernel).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        message(KerpleKernel::Logarithmic, 0.0),
        "r2 must be finite and above 0, got 0.0 at head 0"
    );
    assert_eq!(
        message(KerpleKernel::Power, 2.5),
        "r2 must be above 0 and at most 2.0, got 2.5 at head 0"
    );
}
