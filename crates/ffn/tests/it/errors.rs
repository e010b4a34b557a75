//! One test for each error variant.

use llm_ffn::glu::GluPacking;
use llm_ffn::swiglu::{self, SwigluWeights};
use llm_ffn::{FfnError, rms_norm, silu};
use ndarray::{Array1, Array2, Axis};

fn matrix(rows: usize, columns: usize) -> Array2<f64> {
    Array2::ones((rows, columns))
}

#[test]
fn an_odd_packed_axis_is_refused() {
    let x = matrix(2, 5);
    let expected = FfnError::PackedLen(5);
    assert_eq!(swiglu::apply(&x, GluPacking::GateUp).unwrap_err(), expected);
    let dout = matrix(2, 2);
    let error = swiglu::backward(&dout, &x, GluPacking::UpGate).unwrap_err();
    assert_eq!(error, expected);
    let (odd, down) = (matrix(5, 3), matrix(3, 2));
    let error = SwigluWeights::new(odd.view(), down.view(), GluPacking::GateUp).unwrap_err();
    assert_eq!(error, expected);
    let error = GluPacking::Interleaved
        .split(x.view(), Axis(7))
        .unwrap_err();
    assert_eq!(error, FfnError::PackedLen(1)); // no such axis
}

#[test]
fn dout_of_another_shape_is_refused() {
    let expected = [2, 3];
    let (x, dout) = (matrix(2, 6), matrix(1, 3));
    let error = swiglu::backward(&dout, &x, GluPacking::GateUp).unwrap_err();
    assert_eq!(
        error,
        FfnError::DoutShape {
            expected,
            got: [1, 3]
        }
    );

    let (x, weight, rstd) = (matrix(2, 3), Array1::ones(3), Array1::ones(2));
    let error = rms_norm::backward(&dout, &x, &weight, &rstd).unwrap_err();
    assert_eq!(
        error,
        FfnError::DoutShape {
            expected,
            got: [1, 3]
        }
    );
    let error = silu::backward(&dout, &x).unwrap_err();
    assert_eq!(
        error,
        FfnError::DoutShape {
            expected,
            got: [1, 3]
        }
    );

    let (gate, down) = (matrix(4, 3), matrix(3, 4));
    let weights = SwigluWeights::separate(gate.view(), gate.view(), down.view()).unwrap();
    let (_, saved) = swiglu::forward_saved(&x, &weights).unwrap();
    let error = swiglu::block_backward(&dout, &x, &weights, &saved).unwrap_err();
    assert_eq!(
        error,
        FfnError::DoutShape {
            expected,
            got: [1, 3]
        }
    );
}

#[test]
fn out_of_another_shape_is_refused() {
    let x = matrix(2, 6);
    let mut out = matrix(2, 4);
    let error = swiglu::apply_into(&x, GluPacking::GateUp, &mut out).unwrap_err();
    assert_eq!(
        error,
        FfnError::OutShape {
            expected: [2, 3],
            got: [2, 4]
        }
    );
    let dout = matrix(2, 3);
    let error = swiglu::backward_into(&dout, &x, GluPacking::GateUp, &mut out).unwrap_err();
    assert_eq!(
        error,
        FfnError::OutShape {
            expected: [2, 6],
            got: [2, 4]
        }
    );
}

#[test]
fn up_of_another_shape_than_gate_is_refused() {
    let (gate, up, down) = (matrix(4, 3), matrix(3, 3), matrix(3, 4));
    let error = SwigluWeights::separate(gate.view(), up.view(), down.view()).unwrap_err();
    assert_eq!(
        error,
        FfnError::UpShape {
            gate: [4, 3],
            up: [3, 3]
        }
    );
}

#[test]
fn down_that_does_not_fit_is_refused() {
    let (gate, down) = (matrix(4, 3), matrix(4, 3));
    let error = SwigluWeights::separate(gate.view(), gate.view(), down.view()).unwrap_err();
    assert_eq!(
        error,
        FfnError::DownShape {
            expected: [3, 4],
            got: [4, 3]
        }
    );
    let error = SwigluWeights::new(gate.view(), down.view(), GluPacking::GateUp).unwrap_err();
    assert_eq!(
        error,
        FfnError::DownShape {
            expected: [3, 2],
            got: [4, 3]
        }
    );
}

#[test]
fn a_bias_of_another_length_is_refused() {
    let (gate, down, bias) = (matrix(4, 3), matrix(3, 4), Array1::ones(5));
    let weights = SwigluWeights::separate(gate.view(), gate.view(), down.view()).unwrap();
    let errors = [
        weights.with_gate_bias(bias.view()).unwrap_err(),
        weights.with_up_bias(bias.view()).unwrap_err(),
        weights.with_gate_up_bias(bias.view()).unwrap_err(),
        weights.with_down_bias(bias.view()).unwrap_err(),
    ];
    let expected = [("gate", 4), ("up", 4), ("gate_up", 8), ("down", 3)];
    for (error, (name, expected)) in errors.into_iter().zip(expected) {
        assert_eq!(
            error,
            FfnError::BiasLen {
                name,
                expected,
                got: 5
            }
        );
    }
}

#[test]
fn tokens_of_another_width_are_refused() {
    let (gate, down) = (matrix(4, 3), matrix(3, 4));
    let weights = SwigluWeights::separate(gate.view(), gate.view(), down.view()).unwrap();
    let error = swiglu::forward(&matrix(2, 4), &weights).unwrap_err();
    assert_eq!(
        error,
        FfnError::InputWidth {
            expected: 3,
            got: 4
        }
    );
}

#[test]
fn saved_values_of_another_input_are_refused() {
    let (gate, down) = (matrix(4, 3), matrix(3, 4));
    let weights = SwigluWeights::separate(gate.view(), gate.view(), down.view()).unwrap();
    let (_, saved) = swiglu::forward_saved(&matrix(5, 3), &weights).unwrap();
    let x = matrix(2, 3);
    let error = swiglu::block_backward(&x, &x, &weights, &saved).unwrap_err();
    assert_eq!(
        error,
        FfnError::SavedShape {
            expected: [2, 8],
            got: [5, 8]
        }
    );
}

#[test]
fn a_norm_weight_of_another_length_is_refused() {
    let error = rms_norm::forward(&matrix(2, 3), &Array1::ones(4), 0.0).unwrap_err();
    assert_eq!(
        error,
        FfnError::WeightLen {
            expected: 3,
            got: 4
        }
    );
}

#[test]
fn rstd_of_another_length_is_refused() {
    let x = matrix(2, 3);
    let error = rms_norm::backward(&x, &x, &Array1::ones(3), &Array1::ones(3)).unwrap_err();
    assert_eq!(
        error,
        FfnError::RstdLen {
            expected: 2,
            got: 3
        }
    );
}

#[test]
fn eps_that_is_negative_or_not_finite_is_refused() {
    for eps in [-1e-9, f64::INFINITY] {
        let error = rms_norm::forward(&matrix(2, 3), &Array1::ones(3), eps).unwrap_err();
        assert_eq!(error, FfnError::Eps(eps));
    }
    let error = rms_norm::forward(&matrix(2, 3), &Array1::ones(3), f64::NAN).unwrap_err();
    assert!(matches!(error, FfnError::Eps(eps) if eps.is_nan()));
}
