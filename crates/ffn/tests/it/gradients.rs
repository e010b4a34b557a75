//! Analytic gradients against finite differences of the reference.

use llm_ffn::glu::GluPacking;
use llm_ffn::swiglu::{self, SwigluWeights};
use llm_ffn::{reference, rms_norm, silu};
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use ndarray::{Array, Array1, Array2, Axis, Dimension, ShapeBuilder, concatenate};

/// Numbers in `[-2, 2]` without a pattern that could hide a mistake.
fn numbers<Sh, D>(shape: Sh, seed: u32) -> Array<f64, D>
where
    Sh: ShapeBuilder<Dim = D>,
    D: Dimension,
{
    let mut state = f64::from(seed) + 0.5;
    Array::from_shape_simple_fn(shape, || {
        state = (state * 997.0 + 0.123).rem_euclid(4.0);
        state - 2.0
    })
}

const CHECK: GradientCheck = GradientCheck::new().with_richardson();

#[test]
fn silu_gradient() {
    let (x, dout) = (numbers(17, 1), numbers(17, 2));
    let dx = silu::backward(&dout, &x).unwrap();
    let loss = |x: &Array1<f64>| (x.mapv(reference::silu::silu) * &dout).sum();
    assert_gradient(loss, &x, &dx, &CHECK);
}

#[test]
fn gated_product_gradient_in_every_packing() {
    for packing in GluPacking::ALL {
        let (x, dout) = (numbers((3, 10), 3), numbers((3, 5), 4));
        let dx = swiglu::backward(&dout, &x, packing).unwrap();
        let loss = |x: &Array2<f64>| (reference::swiglu::apply(x, packing).unwrap() * &dout).sum();
        assert_gradient(loss, &x, &dx, &CHECK);
    }
}

#[test]
fn block_gradients_for_every_input_and_weight() {
    let (tokens, d_model, d_ff) = (3, 4, 5);
    let x = numbers((tokens, d_model), 5);
    let dout = numbers((tokens, d_model), 6);
    let gate = numbers((d_ff, d_model), 7);
    let up = numbers((d_ff, d_model), 8);
    let down = numbers((d_model, d_ff), 9);
    let bias = [numbers(d_ff, 10), numbers(d_ff, 11), numbers(d_model, 12)];
    let loss = |x: &Array2<f64>,
                gate: &Array2<f64>,
                up: &Array2<f64>,
                down: &Array2<f64>,
                [a, b, c]: [&Array1<f64>; 3]| {
        let biases = [Some(&**a), Some(&**b), Some(&**c)];
        (reference::swiglu::forward(x, gate, up, down, biases).unwrap() * &dout).sum()
    };
    let b = bias.each_ref();

    let separate = SwigluWeights::separate(gate.view(), up.view(), down.view())
        .and_then(|w| w.with_gate_bias(bias[0].view()))
        .and_then(|w| w.with_up_bias(bias[1].view()))
        .and_then(|w| w.with_down_bias(bias[2].view()))
        .unwrap();
    let packed = concatenate![Axis(0), up, gate];
    let packed_bias = concatenate![Axis(0), bias[1], bias[0]];
    let packed = SwigluWeights::new(packed.view(), down.view(), GluPacking::UpGate)
        .and_then(|w| w.with_gate_up_bias(packed_bias.view()))
        .and_then(|w| w.with_down_bias(bias[2].view()))
        .unwrap();
    for weights in [separate, packed] {
        let (_, saved) = swiglu::forward_saved(&x, &weights).unwrap();
        let gradients = swiglu::block_backward(&dout, &x, &weights, &saved).unwrap();
        assert_gradient(|x| loss(x, &gate, &up, &down, b), &x, &gradients.dx, &CHECK);
        let (dgate, dup) = gradients.split().unwrap();
        assert_gradient(|gate| loss(&x, gate, &up, &down, b), &gate, &dgate, &CHECK);
        assert_gradient(|up| loss(&x, &gate, up, &down, b), &up, &dup, &CHECK);
        let ddown = &gradients.ddown;
        assert_gradient(|down| loss(&x, &gate, &up, down, b), &down, ddown, &CHECK);
        let dbias = gradients.dgate_up_bias.unwrap();
        let (dgate, dup) = gradients.packing.split(dbias.view(), Axis(0)).unwrap();
        let f = |bias: &Array1<f64>| loss(&x, &gate, &up, &down, [bias, b[1], b[2]]);
        assert_gradient(f, b[0], &dgate, &CHECK);
        let f = |bias: &Array1<f64>| loss(&x, &gate, &up, &down, [b[0], bias, b[2]]);
        assert_gradient(f, b[1], &dup, &CHECK);
        let f = |bias: &Array1<f64>| loss(&x, &gate, &up, &down, [b[0], b[1], bias]);
        assert_gradient(f, b[2], &gradients.ddown_bias.unwrap(), &CHECK);
    }
}

#[test]
fn rms_norm_gradients() {
    // More than one block of tokens in the sum over them.
    let (x, dout, weight) = (numbers((37, 5), 13), numbers((37, 5), 14), numbers(5, 15));
    let eps = 1e-2;
    let (_, rstd) = rms_norm::forward_with_rstd(&x, &weight, eps).unwrap();
    let (dx, dweight) = rms_norm::backward(&dout, &x, &weight, &rstd).unwrap();
    let loss = |x: &Array2<f64>, weight: &Array1<f64>| {
        (reference::rms_norm::forward(x, weight, eps).unwrap() * &dout).sum()
    };
    assert_gradient(|x| loss(x, &weight), &x, &dx, &CHECK);
    assert_gradient(|weight| loss(&x, weight), &weight, &dweight, &CHECK);
    let (dx, dweight) = reference::rms_norm::backward(&dout, &x, &weight, eps).unwrap();
    assert_gradient(|x| loss(x, &weight), &x, &dx, &CHECK);
    assert_gradient(|weight| loss(&x, weight), &weight, &dweight, &CHECK);
}
