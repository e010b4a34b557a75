//! Laws of attention sinks, over the documented domain.

use llm_attention::{AttentionConfig, AttentionError, Gradients, Mask, flash, reference, sinks};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::Tolerance;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use ndarray::{Array1, Array3, Array4, ShapeBuilder, array, s};
use proptest::prelude::*;

use crate::cases::{Case, Sizes, cases, close, non_empty_cases};

/// As in `properties.rs`.
const F64: Tolerance = Tolerance::new(1e-11, 1e-10);
const F32: Tolerance = Tolerance::new(2e-4, 2e-4);

/// One for each head, of the size of the scores.
fn random(case: &Case) -> Array1<f64> {
    let numbers = Philox4x32::new(7);
    Array1::from_shape_fn(case.q.dim().1, |h| 3.0 * numbers.normal_f64(0, h as u64))
}

proptest! {
    /// Two steps, attention and then the sinks, equal the textbook's one; the gradients too.
    #[test]
    fn equals_the_reference(case in cases()) {
        let (q, k, v, sink) = (&case.q, &case.k, &case.v, random(&case));
        let (want, want_lse) = reference::sinks::forward(q, k, v, &sink, &case.config).unwrap();
        let (out, lse) = case.forward();
        let (out, lse) = sinks::apply(&out, &lse, &sink).unwrap();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let (want_grads, want_dsinks) =
            reference::sinks::backward(&case.dout, q, k, v, &sink, &case.config).unwrap();
        let Gradients { dq, dk, dv, .. } =
            flash::backward(&case.dout, q, k, v, &out, &lse, &case.config).unwrap();
        close(&dq, &want_grads.dq, F64)?;
        close(&dk, &want_grads.dk, F64)?;
        close(&dv, &want_grads.dv, F64)?;
        let dsinks = sinks::backward(&case.dout, &out, &lse, &sink).unwrap();
        close(&dsinks, &want_dsinks, F64)?;
    }

    /// The same in `f32`, into arrays of any strides.
    #[test]
    fn equals_the_reference_in_f32(case in cases()) {
        let narrow = |x: &Array4<f64>| x.mapv(|x| x as f32);
        let (q, k, v, dout) = (narrow(&case.q), narrow(&case.k), narrow(&case.v), narrow(&case.dout));
        let sink = random(&case);
        let (want, want_lse) =
            reference::sinks::forward(&case.q, &case.k, &case.v, &sink, &case.config).unwrap();
        let (_, want_dsinks) =
            reference::sinks::backward(&case.dout, &case.q, &case.k, &case.v, &sink, &case.config)
                .unwrap();
        let sink = sink.mapv(|x| x as f32);
        let mut out = Array4::zeros(want.dim().f());
        let mut lse = Array3::zeros(want_lse.dim().f());
        flash::forward_into(&q, &k, &v, &case.config, &mut out, Some(&mut lse)).unwrap();
        sinks::apply_inplace(&mut out, &mut lse, &sink).unwrap();
        close(&out.mapv(f64::from), &want, F32)?;
        close(&lse.mapv(f64::from), &want_lse, F32)?;
        let dsinks = sinks::backward(&dout, &out, &lse, &sink).unwrap();
        close(&dsinks.mapv(f64::from), &want_dsinks, F32)?;
    }

    /// A sink of `-inf` changes no bit and has no gradient, even where rows are NaN.
    #[test]
    fn no_sink_changes_nothing(mut case in non_empty_cases(), poisoned in any::<bool>()) {
        if poisoned {
            case.v.slice_mut(s![.., .., 0, ..]).fill(f64::NAN);
        }
        let (out, lse) = case.forward();
        let none = Array1::from_elem(case.q.dim().1, f64::NEG_INFINITY);
        let (got, got_lse) = sinks::apply(&out, &lse, &none).unwrap();
        let bits = |x: &Array4<f64>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&got), bits(&out));
        prop_assert_eq!(&got_lse, &lse);
        let dsinks = sinks::backward(&case.dout, &out, &lse, &none).unwrap();
        prop_assert!(dsinks.iter().all(|x| *x == 0.0));
    }

    /// A sink is one more key that every query sees, whose score is the sink and whose value is zero.
    #[test]
    fn a_sink_is_a_key_without_a_value(mut case in non_empty_cases(), sink in -30.0_f64..30.0) {
        case.config = AttentionConfig::new(Mask::Full).with_scale(1.0);
        let (out, lse) = case.forward();
        let all = Array1::from_elem(case.q.dim().1, sink);
        let (want, want_lse) = sinks::apply(&out, &lse, &all).unwrap();
        // A feature more, which is 1 in the queries, the sink in the new key, and 0 in the others.
        let (b, h, n, _) = case.q.dim();
        let (_, kv_heads, m, _) = case.k.dim();
        let join = |axis: usize, x: &Array4<f64>, y: Array4<f64>| {
            ndarray::concatenate![ndarray::Axis(axis), x.view(), y]
        };
        let d = case.q.dim().3;
        case.q = join(3, &case.q, Array4::ones((b, h, n, 1)));
        case.k = join(3, &case.k, Array4::zeros((b, kv_heads, m, 1)));
        let mut key = Array4::zeros((b, kv_heads, 1, d + 1));
        key.slice_mut(s![.., .., .., d]).fill(sink);
        case.k = join(2, &case.k, key);
        case.v = join(2, &case.v, Array4::zeros((b, kv_heads, 1, case.v.dim().3)));
        let (got, got_lse) = case.forward();
        close(&got, &want, F64)?;
        close(&got_lse, &want_lse, F64)?;
    }
}

#[test]
fn numbers_beyond_the_range_of_exp() {
    let out = Array4::<f32>::from_elem((1, 4, 1, 2), 8.0);
    let lse = array![[[1e4], [-1e4], [f32::NEG_INFINITY], [f32::NAN]]];
    let (got, got_lse) = sinks::apply(&out, &lse, &array![1e4, 1e4, 5.0, 0.0]).unwrap();
    assert_eq!(got.slice(s![0, 0, 0, ..]), array![4.0, 4.0]); // half each
    assert_eq!(got_lse[[0, 0, 0]], 1e4 + 2_f32.ln());
    assert_eq!(got.slice(s![0, 1, 0, ..]), array![0.0, 0.0]);
    assert_eq!(got_lse[[0, 1, 0]], 1e4);
    assert_eq!(got.slice(s![0, 2, 0, ..]), array![0.0, 0.0]);
    assert_eq!(got_lse[[0, 2, 0]], 5.0);
    assert!(got[[0, 3, 0, 0]].is_nan() && got_lse[[0, 3, 0]].is_nan());
    // One that takes all, and one that is no number.
    let (got, got_lse) = sinks::apply(
        &out,
        &Array3::zeros((1, 4, 1)),
        &array![f32::INFINITY, f32::NAN, 0.0, 0.0],
    )
    .unwrap();
    assert_eq!(
        (got[[0, 0, 0, 0]], got_lse[[0, 0, 0]]),
        (0.0, f32::INFINITY)
    );
    assert!(got[[0, 1, 0, 0]].is_nan() && got_lse[[0, 1, 0]].is_nan());
}

#[test]
fn gradients_equal_finite_differences() {
    let sizes = Sizes {
        batch: 2,
        n_heads: 4,
        n_kv_heads: 2,
        seq: 4,
        kv_seq: 3,
        head_dim: 3,
        value_dim: 5,
    };
    let mask = Mask::Causal(llm_attention::CausalAlignment::BottomRight); // the first query is blind
    let case = Case::new(sizes, AttentionConfig::new(mask), 5);
    let sink = random(&case);
    let loss = |sinks: &Array1<f64>| {
        let (q, k, v) = (&case.q, &case.k, &case.v);
        let (out, _) = reference::sinks::forward(q, k, v, sinks, &case.config).unwrap();
        (out * &case.dout).sum()
    };
    let (out, lse) = case.forward();
    let (out, lse) = sinks::apply(&out, &lse, &sink).unwrap();
    let got = sinks::backward(&case.dout, &out, &lse, &sink).unwrap();
    assert_gradient(loss, &sink, &got, &GradientCheck::new());
}

#[test]
fn sinks_must_be_as_many_as_heads() {
    let (mut out, mut lse) = (Array4::<f64>::ones((1, 2, 3, 4)), Array3::zeros((1, 2, 3)));
    let (before, before_lse) = (out.clone(), lse.clone());
    for n in [0, 1, 3] {
        let want = AttentionError::Sinks { n_heads: 2, got: n };
        let few = Array1::zeros(n);
        assert_eq!(sinks::apply(&out, &lse, &few), Err(want.clone()));
        assert_eq!(
            sinks::apply_inplace(&mut out, &mut lse, &few),
            Err(want.clone())
        );
        assert_eq!(sinks::backward(&out, &out, &lse, &few), Err(want.clone()));
        let config = AttentionConfig::new(Mask::Full);
        let got = reference::sinks::forward(&out, &out, &out, &few, &config);
        assert_eq!(got.unwrap_err(), want);
    }
    assert_eq!((out, lse), (before, before_lse));
    assert_eq!(
        AttentionError::Sinks { n_heads: 2, got: 3 }.to_string(),
        "sinks must have one number for each of 2 query heads, got 3"
    );
}

#[test]
fn arrays_must_fit_each_other() {
    let (out, two) = (Array4::<f64>::ones((1, 2, 3, 4)), Array1::zeros(2));
    let want = AttentionError::LseShape {
        expected: [1, 2, 3],
        got: [1, 2, 4],
    };
    let lse = Array3::zeros((1, 2, 4));
    assert_eq!(sinks::apply(&out, &lse, &two), Err(want.clone()));
    assert_eq!(sinks::backward(&out, &out, &lse, &two), Err(want));
    let want = AttentionError::Shape {
        name: "dout",
        expected: [1, 2, 3, 4],
        got: [1, 2, 3, 5],
    };
    let lse = Array3::zeros((1, 2, 3));
    let dout = Array4::zeros((1, 2, 3, 5));
    assert_eq!(sinks::backward(&dout, &out, &lse, &two), Err(want));
    // Broadcast: nothing in memory, and a result that no memory holds.
    let one = Array4::<f32>::zeros((1, 1, 1, 1));
    let out = one.broadcast((1 << 10, 2, 1 << 20, 1 << 30)).unwrap();
    let one = Array3::<f32>::zeros((1, 1, 1));
    let lse = one.broadcast((1 << 10, 2, 1 << 20)).unwrap();
    assert_eq!(
        sinks::apply(&out, &lse, &Array1::zeros(2)),
        Err(AttentionError::TooLarge {
            shape: [1 << 10, 2, 1 << 20, 1 << 30]
        })
    );
}

/// Large enough to wake threads: one, two or three of them give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let n = |i: usize| (i % 101) as f32 / 25.0;
    let out = Array4::from_shape_fn((2, 4, 300, 128), |(b, h, t, d)| n(b + 3 * h + 7 * t + d));
    let lse = Array3::from_shape_fn((2, 4, 300), |(b, h, t)| n(b + h * t));
    let sinks = array![0.3, -1.0, 2.0, 0.0];
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        pool.unwrap()
            .install(|| sinks::apply(&out, &lse, &sinks).unwrap())
    };
    let want = run(1);
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
    assert!(
        (want.0[[1, 2, 3, 4]] - out[[1, 2, 3, 4]] / (1.0 + (2.0 - lse[[1, 2, 3]]).exp())).abs()
            < 1e-5
    );
}
