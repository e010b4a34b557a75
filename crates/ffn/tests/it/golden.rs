//! Known answers, by hand or from a library run that is named.

use llm_ffn::glu::GluPacking;
use llm_ffn::{rms_norm, silu, swiglu};
use llm_numerics::testing::{Tolerance, assert_close};
use ndarray::{Array2, array};

#[test]
fn silu_at_points_that_can_be_done_by_hand() {
    // sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4, sigmoid(0) = 1/2
    let a = 3_f64.ln();
    let y = silu::apply(&array![a, -a, 0.0]);
    assert_close(
        &y,
        &array![0.75 * a, -0.25 * a, 0.0],
        Tolerance::new(1e-15, 1e-15),
    );
    // silu'(0) = 1/2; silu'(ln 3) = 3/4 (1 + ln 3 / 4)
    let d = array![silu::derivative(0.0), silu::derivative(a)];
    assert_close(
        &d,
        &array![0.5, 0.75 * (1.0 + a / 4.0)],
        Tolerance::new(0.0, 1e-15),
    );
}

#[test]
fn packings_take_gate_and_up_from_the_right_places() {
    // sigmoid(30) = 1 in f32 (1 - 9e-14), so silu(30) = 30; silu(0) = 0.
    let x = array![[30.0_f32, 0.0, 2.0, 3.0]];
    // gate 30 0, up 2 3
    assert_eq!(
        swiglu::apply(&x, GluPacking::GateUp).unwrap(),
        array![[60.0, 0.0]]
    );
    // gate 30 2, up 0 3: only the first product is free of rounding
    assert_eq!(
        swiglu::apply(&x, GluPacking::Interleaved).unwrap()[[0, 0]],
        0.0
    );
    // gate 30 0 comes second
    let x = array![[2.0_f32, 3.0, 30.0, 0.0]];
    assert_eq!(
        swiglu::apply(&x, GluPacking::UpGate).unwrap(),
        array![[60.0, 0.0]]
    );
}

#[test]
fn rms_norm_of_three_and_four() {
    // mean square (9 + 16) / 2 = 12.5
    let (y, rstd) =
        rms_norm::forward_with_rstd(&array![[3.0, 4.0]], &array![2.0, -1.0], 0.0).unwrap();
    let r = 12.5_f64.sqrt();
    assert_close(&y, &array![[6.0 / r, -4.0 / r]], Tolerance::new(0.0, 1e-15));
    assert_close(&rstd, &array![1.0 / r], Tolerance::new(0.0, 1e-15));
    // dx for dout = (1, 0): w_0 (1/r - 9 / (2 r^3)), w_0 (-12 / (2 r^3)); dw = (3/r, 0)
    let (dx, dweight) = rms_norm::backward(
        &array![[1.0, 0.0]],
        &array![[3.0, 4.0]],
        &array![2.0, -1.0],
        &rstd,
    )
    .unwrap();
    let cube = r * r * r;
    let expected = array![[2.0 * (1.0 / r - 4.5 / cube), 2.0 * (-6.0 / cube)]];
    assert_close(&dx, &expected, Tolerance::new(1e-15, 1e-14));
    assert_close(&dweight, &array![3.0 / r, 0.0], Tolerance::new(0.0, 1e-15));
}

#[test]
fn rms_norm_survives_squares_that_overflow_or_vanish() {
    // All elements equal: each becomes 1, whatever its size.
    for size in [1e30_f32, 1e-30, -1e25, 3e38] {
        let x = Array2::from_elem((1, 5), size);
        let y = rms_norm::forward(&x, &array![1.0, 1.0, 1.0, 1.0, 1.0], 0.0).unwrap();
        let expected = Array2::from_elem((1, 5), size.signum());
        assert_close(&y, &expected, Tolerance::new(0.0, 1e-6));
    }
    // eps far above the squares: x / sqrt(eps) = 1e-25 / 1e-3
    let y = rms_norm::forward(&array![[1e-25_f32]], &array![1.0], 1e-6).unwrap();
    assert_close(&y, &array![[1e-22]], Tolerance::new(0.0, 1e-6));
    // eps as small as the squares: 1e-20 / sqrt(1e-40 + 1e-40)
    let y = rms_norm::forward(&array![[1e-20_f64 as f32]], &array![1.0], 1e-40).unwrap();
    assert_close(&y, &array![[0.5_f64.sqrt()]], Tolerance::new(0.0, 1e-4)); // 1e-40 is subnormal in f32
}

#[test]
fn rms_norm_of_zeros_nan_and_infinity() {
    let weight = array![1.0_f32, 1.0];
    let y = rms_norm::forward(&array![[0.0, -0.0]], &weight, 1e-6).unwrap();
    assert_eq!(y, array![[0.0, 0.0]]);
    let y = rms_norm::forward(&array![[0.0, 0.0]], &weight, 0.0).unwrap();
    assert!(y.iter().all(|y| y.is_nan()));
    let x = array![[f32::NAN, 2.0], [f32::INFINITY, 2.0], [1.0, 1.0]];
    let y = rms_norm::forward(&x, &weight, 0.0).unwrap();
    assert!(y.row(0).iter().all(|y| y.is_nan()));
    assert!(y[[1, 0]].is_nan() && y[[1, 1]] == 0.0);
    assert_eq!(y.row(2), array![1.0, 1.0]); // rows do not mix
}
