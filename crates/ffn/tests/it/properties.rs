//! Laws, over the whole documented domain.

use llm_ffn::glu::GluPacking;
use llm_ffn::swiglu::{self, SwigluWeights};
use llm_ffn::{reference, rms_norm, silu};
use llm_numerics::Float;
use llm_numerics::testing::{Tolerance, assert_close};
use ndarray::{Array, Array1, Array2, Axis, Dimension, ShapeBuilder, concatenate, s};
use proptest::prelude::*;

fn vector(n: usize, limit: f64) -> impl Strategy<Value = Array1<f64>> {
    prop::collection::vec(-limit..limit, n).prop_map(Array1::from_vec)
}

fn matrix(rows: usize, columns: usize, limit: f64) -> impl Strategy<Value = Array2<f64>> {
    vector(rows * columns, limit)
        .prop_map(move |x| x.into_shape_with_order((rows, columns)).unwrap())
}

/// Tokens with packed gate and up values, zero lengths included.
fn packed() -> impl Strategy<Value = Array2<f64>> {
    (0..6_usize, 0..40_usize).prop_flat_map(|(tokens, d_ff)| matrix(tokens, 2 * d_ff, 60.0))
}

fn packing() -> impl Strategy<Value = GluPacking> {
    prop::sample::select(&GluPacking::ALL[..])
}

/// Tokens and a norm's weight, zero lengths included.
fn normed() -> impl Strategy<Value = (Array2<f64>, Array1<f64>)> {
    (0..50_usize, 0..40_usize)
        .prop_flat_map(|(tokens, width)| (matrix(tokens, width, 9.0), vector(width, 3.0)))
}

/// `x`, `gate`, `up`, `down` of a block, zero lengths included.
fn block() -> impl Strategy<Value = [Array2<f64>; 4]> {
    (0..5_usize, 0..6_usize, 0..7_usize).prop_flat_map(|(tokens, d_model, d_ff)| {
        [
            matrix(tokens, d_model, 2.0),
            matrix(d_ff, d_model, 2.0),
            matrix(d_ff, d_model, 2.0),
            matrix(d_model, d_ff, 2.0),
        ]
    })
}

fn narrow<D: Dimension>(x: &Array<f64, D>) -> Array<f32, D> {
    x.mapv(|x| x as f32)
}

/// The same values with other strides: columns outermost, and reversed in memory.
fn other_strides<F: Float>(x: &Array2<F>) -> Array2<F> {
    let mut y = Array2::zeros(x.dim().f());
    y.invert_axis(Axis(0));
    y.assign(x);
    y
}

/// Gate and up from one packing into another.
fn repack(x: &Array2<f64>, from: GluPacking, to: GluPacking) -> Array2<f64> {
    let (gate, up) = from.split(x.view(), Axis(1)).unwrap();
    match to {
        GluPacking::GateUp => concatenate![Axis(1), gate, up],
        GluPacking::UpGate => concatenate![Axis(1), up, gate],
        _ => {
            let mut y = Array2::zeros(x.raw_dim());
            for j in 0..gate.ncols() {
                y.column_mut(2 * j).assign(&gate.column(j));
                y.column_mut(2 * j + 1).assign(&up.column(j));
            }
            y
        }
    }
}

proptest! {
    /// f64: same formula in another form. f32: the inputs are rounded too, so the product is compared at f32's inputs.
    #[test]
    fn gated_product_matches_the_reference(x in packed(), packing in packing()) {
        let want = reference::swiglu::apply(&x, packing).unwrap();
        let tolerance = Tolerance::new(1e-13, 1e-13);
        assert_close(&swiglu::apply(&x, packing).unwrap(), &want, tolerance);
        let x = narrow(&x);
        let want = reference::swiglu::apply(&x.mapv(f64::from), packing).unwrap();
        let got = swiglu::apply(&x, packing).unwrap();
        assert_close(&got, &want, Tolerance::new(1e-30, 1e-6)); // 6 + 1 units of 6e-8
    }

    #[test]
    fn silu_matches_the_reference_everywhere(x in prop::num::f32::NORMAL | prop::num::f32::ZERO) {
        let got = f64::from(silu::value(x));
        let want = reference::silu::silu(f64::from(x));
        prop_assert!((got - want).abs() <= 2e-36 + 4e-7 * want.abs(), "{got} {want}");
        let got = f64::from(silu::derivative(x));
        let want = reference::silu::silu_derivative(f64::from(x));
        prop_assert!((got - want).abs() <= 4e-7, "{got} {want}");
    }

    #[test]
    fn a_gate_of_zero_gives_zero(x in packed(), packing in packing()) {
        let (_, up) = packing.split(x.view(), Axis(1)).unwrap();
        let zero = Array2::zeros(up.raw_dim());
        let x = repack(&concatenate![Axis(1), zero, up], GluPacking::GateUp, packing);
        let y = swiglu::apply(&x, packing).unwrap();
        prop_assert!(y.iter().all(|y| *y == 0.0));
    }

    #[test]
    fn gated_product_is_silu_of_gate_times_up(x in packed(), packing in packing()) {
        let (gate, up) = packing.split(x.view(), Axis(1)).unwrap();
        let parts = silu::apply(&gate) * up;
        prop_assert_eq!(swiglu::apply(&x, packing).unwrap(), parts);
    }

    #[test]
    fn packings_are_permutations_of_each_other(x in packed(), from in packing(), to in packing()) {
        let y = swiglu::apply(&x, from).unwrap();
        let moved = repack(&x, from, to);
        prop_assert_eq!(&swiglu::apply(&moved, to).unwrap(), &y);
        let dx = swiglu::backward(&y, &x, from).unwrap();
        let dmoved = swiglu::backward(&y, &moved, to).unwrap();
        prop_assert_eq!(repack(&dx, from, to), dmoved);
    }

    #[test]
    fn strides_and_targets_change_no_bit(x in packed(), packing in packing()) {
        let x = narrow(&x);
        let y = swiglu::apply(&x, packing).unwrap();
        let x_other = other_strides(&x);
        let mut out = other_strides(&y);
        out.fill(f32::NAN);
        swiglu::apply_into(&x_other, packing, &mut out).unwrap();
        prop_assert_eq!(&out, &y);
        let dx = swiglu::backward(&y, &x, packing).unwrap();
        let mut dx_other = x_other.clone();
        swiglu::backward_into(&out, &x_other, packing, &mut dx_other).unwrap();
        prop_assert_eq!(dx_other, dx);
    }

    #[test]
    fn block_matches_the_reference_and_its_parts([x, gate, up, down] in block()) {
        let want = reference::swiglu::forward(&x, &gate, &up, &down, [None; 3]).unwrap();
        let weights = SwigluWeights::separate(gate.view(), up.view(), down.view()).unwrap();
        let got = swiglu::forward(&x, &weights).unwrap();
        assert_close(&got, &want, Tolerance::new(1e-11, 1e-11));
        let hidden = concatenate![Axis(1), x.dot(&gate.t()), x.dot(&up.t())];
        let parts = swiglu::apply(&hidden, GluPacking::GateUp).unwrap().dot(&down.t());
        assert_close(&got, &parts, Tolerance::new(1e-11, 1e-11));
    }

    #[test]
    fn block_does_not_depend_on_the_packing([x, gate, up, down] in block(), to in packing()) {
        let separate = SwigluWeights::separate(gate.view(), up.view(), down.view()).unwrap();
        let (want, saved) = swiglu::forward_saved(&x, &separate).unwrap();
        let dwant = swiglu::block_backward(&want, &x, &separate, &saved).unwrap();

        let columns = concatenate![Axis(1), gate.t(), up.t()];
        let packed = repack(&columns, GluPacking::GateUp, to).reversed_axes();
        let weights = SwigluWeights::new(packed.view(), down.view(), to).unwrap();
        let (got, saved) = swiglu::forward_saved(&x, &weights).unwrap();
        let dgot = swiglu::block_backward(&want, &x, &weights, &saved).unwrap();

        let tolerance = Tolerance::new(1e-9, 1e-10);
        assert_close(&got, &want, tolerance);
        assert_close(&dgot.dx, &dwant.dx, tolerance);
        assert_close(&dgot.ddown, &dwant.ddown, tolerance);
        let (dgate, dup) = dgot.split().unwrap();
        let (dgate_want, dup_want) = dwant.split().unwrap();
        assert_close(&dgate, &dgate_want, tolerance);
        assert_close(&dup, &dup_want, tolerance);
    }

    #[test]
    fn a_bias_on_the_gate_alone_is_used([x, gate, up, down] in block(), bias in vector(6, 2.0)) {
        let bias = bias.slice(s![..gate.nrows().min(6)]);
        prop_assume!(bias.len() == gate.nrows());
        let owned = bias.to_owned();
        let biases = [Some(&*owned), None, None];
        let want = reference::swiglu::forward(&x, &gate, &up, &down, biases).unwrap();
        let weights = SwigluWeights::separate(gate.view(), up.view(), down.view())
            .and_then(|w| w.with_gate_bias(bias))
            .unwrap();
        let got = swiglu::forward(&x, &weights).unwrap();
        assert_close(&got, &want, Tolerance::new(1e-11, 1e-11));
    }

    #[test]
    fn rms_norm_matches_the_reference((x, weight) in normed(), eps in 1e-9..1.0) {
        let want = reference::rms_norm::forward(&x, &weight, eps).unwrap();
        let (y, rstd) = rms_norm::forward_with_rstd(&x, &weight, eps).unwrap();
        assert_close(&y, &want, Tolerance::new(1e-13, 1e-13));
        let (dx, dweight) = rms_norm::backward(&y, &x, &weight, &rstd).unwrap();
        let (dx_want, dweight_want) =
            reference::rms_norm::backward(&want, &x, &weight, eps).unwrap();
        // dx cancels: relative to the terms, which are below 100 rstd.
        let scale = rstd.iter().fold(1.0, |max: f64, r| max.max(*r));
        assert_close(&dx, &dx_want, Tolerance::new(1e-11 * scale, 0.0));
        assert_close(&dweight, &dweight_want, Tolerance::new(1e-11, 1e-11));
    }

    #[test]
    fn rms_norm_in_f32_is_as_precise_as_f32((x, weight) in normed(), eps in 1e-9..1.0) {
        let (x, weight) = (narrow(&x), narrow(&weight));
        let wide = weight.mapv(f64::from);
        let want = reference::rms_norm::forward(&x.mapv(f64::from), &wide, eps).unwrap();
        let y = rms_norm::forward(&x, &weight, eps).unwrap();
        assert_close(&y, &want, Tolerance::new(1e-30, 1e-6)); // 40 terms: a few units of 6e-8
    }

    #[test]
    fn rms_norm_gives_a_root_mean_square_of_one((x, weight) in normed()) {
        prop_assume!(x.ncols() > 0);
        let ones = Array1::ones(weight.len());
        let y = rms_norm::forward(&x, &ones, 0.0).unwrap();
        for (x, y) in x.rows().into_iter().zip(y.rows()) {
            let mean = y.iter().map(|y| y * y).sum::<f64>() / y.len() as f64;
            prop_assert!(x.iter().all(|x| *x == 0.0) || (mean - 1.0).abs() < 1e-13);
        }
    }

    #[test]
    fn rms_norm_ignores_the_scale((x, weight) in normed(), power in -300..300_i32) {
        let y = rms_norm::forward(&x, &weight, 0.0).unwrap();
        let scaled = x.mapv(|x| x * 2_f64.powi(power));
        let got = rms_norm::forward(&scaled, &weight, 0.0).unwrap();
        for (row, (got, want)) in x.rows().into_iter().zip(got.rows().into_iter().zip(y.rows())) {
            if row.iter().any(|x| *x != 0.0) {
                assert_close(&got, &want, Tolerance::new(1e-13, 1e-13));
            }
        }
    }

    #[test]
    fn the_gradient_of_rms_norm_is_orthogonal_to_the_token((x, weight) in normed()) {
        let (y, rstd) = rms_norm::forward_with_rstd(&x, &weight, 0.0).unwrap();
        prop_assume!(rstd.iter().all(|r| r.is_finite() && *r < 1e3));
        let (dx, _) = rms_norm::backward(&y, &x, &weight, &rstd).unwrap();
        for ((dx, x), r) in dx.rows().into_iter().zip(x.rows()).zip(&rstd) {
            prop_assert!(dx.dot(&x).abs() < 1e-10 * (1.0 + r));
        }
    }

    #[test]
    fn strides_change_no_bit_of_the_norm((x, weight) in normed()) {
        let (x, weight) = (narrow(&x), narrow(&weight));
        let (y, rstd) = rms_norm::forward_with_rstd(&x, &weight, 1e-6).unwrap();
        let mut weight_other = weight.clone();
        weight_other.invert_axis(Axis(0));
        weight_other.assign(&weight);
        let x_other = other_strides(&x);
        let (y_other, rstd_other) =
            rms_norm::forward_with_rstd(&x_other, &weight_other, 1e-6).unwrap();
        prop_assert_eq!(&y_other, &y);
        let (dx, dweight) = rms_norm::backward(&y, &x, &weight, &rstd).unwrap();
        let y_other = other_strides(&y);
        let (dx_other, dweight_other) =
            rms_norm::backward(&y_other, &x_other, &weight_other, &rstd_other).unwrap();
        prop_assert_eq!(dx_other, dx);
        prop_assert_eq!(dweight_other, dweight);
    }
}

/// Sizes that are cut into several tasks: one row at a time gives the same bits.
#[test]
fn tasks_change_no_bit() {
    let x = Array2::from_shape_fn((67, 2600), |(t, i)| {
        ((t * 31 + i * 7) % 101) as f32 / 25.0 - 2.0
    });
    let weight = Array1::from_shape_fn(2600, |i| (i % 13) as f32 / 6.0 - 1.0);
    let y = swiglu::apply(&x, GluPacking::Interleaved).unwrap();
    let (normed, rstd) = rms_norm::forward_with_rstd(&x, &weight, 1e-6).unwrap();
    let (dx, _) = rms_norm::backward(&normed, &x, &weight, &rstd).unwrap();
    let dglu = swiglu::backward(&y, &x, GluPacking::Interleaved).unwrap();
    for t in 0..67 {
        let row = x.slice(s![t..=t, ..]);
        assert_eq!(
            swiglu::apply(&row, GluPacking::Interleaved).unwrap().row(0),
            y.row(t)
        );
        let (one, r) = rms_norm::forward_with_rstd(&row, &weight, 1e-6).unwrap();
        assert_eq!(one.row(0), normed.row(t));
        let (done, _) = rms_norm::backward(&one, &row, &weight, &r).unwrap();
        assert_eq!(done.row(0), dx.row(t));
        let dout = y.slice(s![t..=t, ..]);
        let one = swiglu::backward(&dout, &row, GluPacking::Interleaved).unwrap();
        assert_eq!(one.row(0), dglu.row(t));
    }
}
