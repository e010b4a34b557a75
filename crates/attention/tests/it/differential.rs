//! Differential attention: laws, known answers, gradients.

mod errors;
mod head_norm;
mod lambda;

use llm_attention::ndarray::{Array1, Array4, ArrayRef4, Axis, ShapeBuilder, array, s};
use llm_attention::{AttentionConfig, CausalAlignment, Mask, differential, reference};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::Tolerance;
use llm_numerics::testing::assert_close;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use proptest::prelude::*;

use crate::cases::{self, Sizes, close};

/// As in `properties.rs`, with weights up to 3 on the second attention.
const F64: Tolerance = Tolerance::new(5e-11, 5e-10);
const F32: Tolerance = Tolerance::new(1e-3, 1e-3);

/// A call of forward and backward: one of attention, other queries and keys, and a weight.
#[derive(Clone, Debug)]
struct Case {
    one: cases::Case,
    q2: Array4<f64>,
    k2: Array4<f64>,
    lambda: Array1<f64>,
}

impl Case {
    fn new(one: cases::Case, key: u64) -> Self {
        let random = Philox4x32::new(key);
        let draw = |stream: u64, x: &Array4<f64>| {
            let mut i = 0;
            Array4::from_shape_simple_fn(x.dim(), || {
                i += 1;
                random.normal_f64(stream, i)
            })
        };
        let (q2, k2) = (draw(0, &one.q), draw(1, &one.k));
        let lambda = Array1::from_shape_fn(one.q.dim().1, |h| random.normal_f64(2, h as u64));
        Self {
            one,
            q2,
            k2,
            lambda,
        }
    }

    fn q(&self) -> [&ArrayRef4<f64>; 2] {
        [&self.one.q, &self.q2]
    }

    fn k(&self) -> [&ArrayRef4<f64>; 2] {
        [&self.one.k, &self.k2]
    }

    fn forward(&self) -> Array4<f64> {
        let (v, config) = (&self.one.v, &self.one.config);
        differential::forward(self.q(), self.k(), v, &self.lambda, config).unwrap()
    }

    fn backward(&self) -> (Array4<f64>, differential::Gradients<f64>) {
        let (v, config, dout) = (&self.one.v, &self.one.config, &self.one.dout);
        let (q, k, lambda) = (self.q(), self.k(), &self.lambda);
        let (out, saved) = differential::forward_with_saved(q, k, v, lambda, config).unwrap();
        let got = differential::backward(dout, q, k, v, lambda, &saved, config).unwrap();
        (out, got)
    }

    fn reference(&self) -> (Array4<f64>, differential::Gradients<f64>) {
        let (v, config, dout) = (&self.one.v, &self.one.config, &self.one.dout);
        let (q, k, lambda) = (self.q(), self.k(), &self.lambda);
        let out = reference::differential::forward(q, k, v, lambda, config).unwrap();
        let got = reference::differential::backward(dout, q, k, v, lambda, config).unwrap();
        (out, got)
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (cases::cases(), any::<u64>()).prop_map(|(one, key)| Case::new(one, key))
}

fn close_gradients(
    got: &differential::Gradients<f64>,
    want: &differential::Gradients<f64>,
    tolerance: Tolerance,
) -> Result<(), TestCaseError> {
    for m in [0, 1] {
        close(&got.dq[m], &want.dq[m], tolerance)?;
        close(&got.dk[m], &want.dk[m], tolerance)?;
    }
    close(&got.dv, &want.dv, tolerance)?;
    close(&got.dlambda, &want.dlambda, tolerance)
}

proptest! {
    /// Two attentions are the textbook's difference of matrices, forward and backward.
    #[test]
    fn equals_the_reference(case in cases()) {
        let (want, want_grads) = case.reference();
        close(&case.forward(), &want, F64)?;
        let (out, got) = case.backward();
        close(&out, &want, F64)?;
        close_gradients(&got, &want_grads, F64)?;
    }

    /// The same in `f32`, in arrays of any strides.
    #[test]
    fn equals_the_reference_in_f32(case in cases()) {
        let (want, want_grads) = case.reference();
        let narrow = |x: &Array4<f64>| {
            let mut turned = Array4::<f32>::zeros(x.dim().f());
            turned.assign(&x.mapv(|x| x as f32));
            turned
        };
        let (q1, q2) = (narrow(&case.one.q), narrow(&case.q2));
        let (k1, k2) = (narrow(&case.one.k), narrow(&case.k2));
        let (v, dout) = (narrow(&case.one.v), narrow(&case.one.dout));
        let (lambda, config) = (case.lambda.mapv(|x| x as f32), &case.one.config);
        let q: [&ArrayRef4<f32>; 2] = [&q1, &q2];
        let k: [&ArrayRef4<f32>; 2] = [&k1, &k2];
        let (out, saved) = differential::forward_with_saved(q, k, &v, &lambda, config).unwrap();
        close(&out.mapv(f64::from), &want, F32)?;
        let got = differential::backward(&dout, q, k, &v, &lambda, &saved, config).unwrap();
        let got = differential::Gradients {
            dq: got.dq.map(|x| x.mapv(f64::from)),
            dk: got.dk.map(|x| x.mapv(f64::from)),
            dv: got.dv.mapv(f64::from),
            dlambda: got.dlambda.mapv(f64::from),
        };
        close_gradients(&got, &want_grads, F32)?;
    }

    /// Without weight on the second, it is attention; the second gets no gradient.
    #[test]
    fn lambda_zero_is_attention(mut case in cases()) {
        case.lambda.fill(0.0);
        let (want, _) = case.one.forward();
        prop_assert_eq!(case.forward(), want);
        let (_, got) = case.backward();
        let want = case.one.backward();
        prop_assert_eq!(&got.dq[0], &want.dq);
        prop_assert_eq!(&got.dk[0], &want.dk);
        prop_assert_eq!(&got.dv, &want.dv);
        prop_assert!(got.dq[1].iter().chain(&got.dk[1]).all(|x| *x == 0.0));
    }

    /// What both look at falls out: with equal queries and keys, `1 - lambda` of attention is left.
    #[test]
    fn common_attention_falls_out(mut case in cases()) {
        (case.q2, case.k2) = (case.one.q.clone(), case.one.k.clone());
        let (mut want, _) = case.one.forward();
        for (mut want, lambda) in want.axis_iter_mut(Axis(1)).zip(&case.lambda) {
            want *= 1.0 - lambda;
        }
        close(&case.forward(), &want, F64)?;
        case.lambda.fill(1.0);
        prop_assert!(case.forward().iter().all(|x| *x == 0.0));
    }

    /// The weights of a row sum to `1 - lambda`: of 1 - 1 = 0 where no key is seen.
    #[test]
    fn rows_sum_to_one_less_lambda(mut case in cases()) {
        case.one.v.fill(1.0);
        let (_, lse) = case.one.forward();
        for ((b, h, i, d), &x) in case.forward().indexed_iter() {
            let is_blind = lse[[b, h, i]] == f64::NEG_INFINITY;
            let want = if is_blind { 0.0 } else { 1.0 - case.lambda[h] };
            prop_assert!((x - want).abs() < 1e-12, "{:?}: {x} {want}", (b, h, i, d));
        }
    }

    /// With the pairs swapped and `1 / lambda`, the result is `-1 / lambda` of what it was.
    #[test]
    fn pairs_can_be_swapped(case in cases()) {
        let case = Case { lambda: case.lambda.mapv(|x| if x < 0.0 { x - 0.5 } else { x + 0.5 }), ..case };
        let mut want = case.forward();
        for (mut want, lambda) in want.axis_iter_mut(Axis(1)).zip(&case.lambda) {
            want *= -1.0 / lambda;
        }
        let swapped = Case {
            one: cases::Case { q: case.q2, k: case.k2, ..case.one },
            q2: case.one.q,
            k2: case.one.k,
            lambda: case.lambda.mapv(|x| 1.0 / x),
        };
        close(&swapped.forward(), &want, F64)?;
    }

    /// A tenfold of the values is a tenfold of the result; `lambda` moves it along a line.
    #[test]
    fn it_is_linear_in_values_and_affine_in_lambda(case in cases()) {
        let out = case.forward();
        let mut scaled = case.clone();
        scaled.one.v *= -10.0;
        close(&scaled.forward(), &(-10.0 * &out), Tolerance::new(1e-9, 1e-9))?;
        let mut doubled = case.clone();
        doubled.lambda *= 2.0;
        let (first, _) = case.one.forward();
        close(&doubled.forward(), &(2.0 * &out - first), F64)?;
    }
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
    let masks = [
        Mask::Full,
        Mask::Causal(CausalAlignment::BottomRight), // the first query is blind
    ];
    for mask in masks {
        let config = AttentionConfig::new(mask);
        for config in [config, config.with_scale(-1.3).with_softcap(0.9)] {
            let case = Case::new(cases::Case::new(sizes, config, 11), 12);
            let loss = |case: &Case| {
                let (v, config) = (&case.one.v, &case.one.config);
                let (q, k) = (case.q(), case.k());
                let out = reference::differential::forward(q, k, v, &case.lambda, config);
                (out.unwrap() * &case.one.dout).sum()
            };
            let settings = GradientCheck::new();
            for got in [case.backward().1, case.reference().1] {
                let with = |change: &dyn Fn(&mut Case)| {
                    let mut case = case.clone();
                    change(&mut case);
                    loss(&case)
                };
                let of = |x: &Array4<f64>| x.clone();
                let f = |x: &Array4<f64>| with(&|case| case.one.q = of(x));
                assert_gradient(f, &case.one.q, &got.dq[0], &settings);
                let f = |x: &Array4<f64>| with(&|case| case.q2 = of(x));
                assert_gradient(f, &case.q2, &got.dq[1], &settings);
                let f = |x: &Array4<f64>| with(&|case| case.one.k = of(x));
                assert_gradient(f, &case.one.k, &got.dk[0], &settings);
                let f = |x: &Array4<f64>| with(&|case| case.k2 = of(x));
                assert_gradient(f, &case.k2, &got.dk[1], &settings);
                let f = |x: &Array4<f64>| with(&|case| case.one.v = of(x));
                assert_gradient(f, &case.one.v, &got.dv, &settings);
                let f = |x: &Array1<f64>| with(&|case| case.lambda = x.clone());
                assert_gradient(f, &case.lambda, &got.dlambda, &settings);
            }
        }
    }
}

// Two heads on one key-value head, two keys, scale 1. The first softmax of head 0 has scores
// ln 3 and 0: weights 3/4 and 1/4; of head 1 -ln 3 and 0: 1/4 and 3/4. The second weighs both
// keys 1/2. Values 8 and 16, lambda 1/2 and -1:
//   head 0: (3/4 - 1/4) 8 + (1/4 - 1/4) 16 = 4
//   head 1: (1/4 + 1/2) 8 + (3/4 + 1/2) 16 = 26
#[test]
fn two_heads_by_hand() {
    let q1 = array![[[[1.0]], [[-1.0]]]];
    let k1 = array![[[[3_f64.ln()], [0.0]]]];
    let (q2, k2) = (Array4::ones((1, 2, 1, 1)), Array4::zeros((1, 1, 2, 1)));
    let v = array![[[[8.0], [16.0]]]];
    let lambda = array![0.5, -1.0];
    let config = AttentionConfig::new(Mask::Full);
    let got = differential::forward([&q1, &q2], [&k1, &k2], &v, &lambda, &config).unwrap();
    let want = array![[[[4.0]], [[26.0]]]];
    assert_close(&got, &want, Tolerance::new(1e-13, 0.0));
    let q: [&ArrayRef4<f64>; 2] = [&q1, &q2];
    let k: [&ArrayRef4<f64>; 2] = [&k1, &k2];
    let got = reference::differential::forward(q, k, &v, &lambda, &config).unwrap();
    assert_close(&got, &want, Tolerance::new(1e-13, 0.0));
}

// Both ways to pair heads are views of one array.
#[test]
fn pairs_are_views() {
    let (q, v) = (
        Array4::<f64>::ones((1, 4, 3, 2)),
        Array4::ones((1, 2, 3, 4)),
    );
    let config = AttentionConfig::new(Mask::Full);
    let lambda = array![0.25, 0.25];
    let (first, second) = q.view().split_at(Axis(1), 2);
    let halves = differential::forward([&first, &second], [&first, &second], &v, &lambda, &config);
    let (even, odd) = (
        q.slice(s![.., 0..;2, .., ..]),
        q.slice(s![.., 1..;2, .., ..]),
    );
    let neighbors = differential::forward([&even, &odd], [&even, &odd], &v, &lambda, &config);
    assert_eq!(halves, neighbors);
    assert_close(
        &halves.unwrap(),
        &Array4::from_elem((1, 2, 3, 4), 0.75),
        Tolerance::new(1e-15, 0.0),
    );
}

/// Large enough to wake threads: one, two or three of them give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let sizes = Sizes {
        batch: 2,
        n_heads: 4,
        n_kv_heads: 2,
        seq: 100,
        kv_seq: 100,
        head_dim: 16,
        value_dim: 32,
    };
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let case = Case::new(cases::Case::new(sizes, config, 1), 2);
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        pool.unwrap().install(|| case.backward())
    };
    let want = run(1);
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
    let (plain, _) = case.one.forward();
    assert!(plain != want.0);
}
