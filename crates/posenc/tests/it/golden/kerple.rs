//! Known answers (kerple), worked out by hand.

use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::kerple::{self, KerpleKernel};
use ndarray::{Array3, array};

/// The logarithms and roots below are given to 10 digits, each at most 3.3.
const DIGITS: Tolerance = Tolerance::new(5e-10, 0.0);

// r1 = 1/2, r2 = 3: -ln(1 + 3 d) / 2 for d = 0, 1, 2, 3 is
// 0, -ln 4 / 2 = -ln 2, -ln 7 / 2 = -0.9729550745, -ln 10 / 2 = -1.1512925465.
#[test]
fn logarithmic_by_hand() {
    let bias = kerple::bias(&array![0.5], &array![3.0], 2, 4, KerpleKernel::Logarithmic).unwrap();
    let (one, two, three) = (-std::f64::consts::LN_2, -0.9729550745, -1.1512925465);
    // Two queries beside the last two of four keys.
    let want = array![[[two, one, 0.0, one], [three, two, one, 0.0]]];
    assert_close(&bias, &want, DIGITS);
}

// r1 = 2, r2 = 1/2: -2 sqrt d is 0, -2, -2.8284271247, -3.4641016151.
// r1 = 1/4, r2 = 2: -d^2 / 4 is 0, -0.25, -1, -2.25.
#[test]
fn power_by_hand() {
    let (r1, r2) = (array![2.0, 0.25], array![0.5, 2.0]);
    let bias = kerple::bias(&r1, &r2, 1, 4, KerpleKernel::Power).unwrap();
    let want = array![
        [[-3.4641016151, -2.8284271247, -2.0, 0.0]],
        [[-2.25, -1.0, -0.25, 0.0]],
    ];
    assert_close(&bias, &want, DIGITS);
}

// Distances 3 2 1 0, dbias 1 10 100 1000, r1 = 1/2, r2 = 1:
// dr1 = -(ln 4 + 10 ln 3 + 100 ln 2) = -(1.3862943611 + 10.9861228867 + 69.3147180560)
// dr2 = -(3/4 + 10 * 2/3 + 100 * 1/2) / 2
#[test]
fn the_gradient_of_the_logarithmic_kernel_by_hand() {
    let dbias = array![[[1.0, 10.0, 100.0, 1000.0]]];
    let (dr1, dr2) = kerple::backward(
        &dbias,
        &array![0.5],
        &array![1.0],
        KerpleKernel::Logarithmic,
    )
    .unwrap();
    assert_close(&dr1, &array![-81.6871353038], Tolerance::new(1e-9, 0.0));
    let want = -(0.75 + 20.0 / 3.0 + 50.0) / 2.0;
    assert_close(&dr2, &array![want], Tolerance::new(0.0, 1e-15));
}

// 0^r2 is 0 for every r2 > 0, so distance 0 has no part in either gradient.
#[test]
fn distance_0_has_no_gradient() {
    for kernel in [KerpleKernel::Logarithmic, KerpleKernel::Power] {
        for r2 in [f64::MIN_POSITIVE, 0.5, 1.0, 2.0] {
            let (dr1, dr2) =
                kerple::backward(&array![[[5.0]]], &array![3.0], &array![r2], kernel).unwrap();
            assert_eq!((dr1, dr2), (array![0.0], array![0.0]));
        }
    }
}

#[test]
fn empty_axes_give_empty_results() {
    let one = array![1.0_f32];
    for (seq, kv_seq) in [(0, 3), (3, 0), (0, 0)] {
        let bias = kerple::bias(&one, &one, seq, kv_seq, KerpleKernel::Power).unwrap();
        assert_eq!(bias, Array3::<f32>::zeros((1, seq, kv_seq)));
        let (dr1, dr2) = kerple::backward(&bias, &one, &one, KerpleKernel::Power).unwrap();
        assert_eq!((dr1, dr2), (array![0.0], array![0.0]));
    }
}
