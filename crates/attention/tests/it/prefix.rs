//! A prefix of keys and values that all sequences share: laws, known answers, gradients, errors.

use llm_attention::ndarray::{Array3, Array4, Axis, array, concatenate, s};
use llm_attention::{
    AttentionConfig, AttentionError, CausalAlignment, Mask, flash, prefix, reference,
};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_numerics::testing::{Tolerance, assert_close};
use proptest::prelude::*;

use crate::cases::{self, Sizes, alignments, close, non_empty_cases};

/// As in `properties.rs`; the prefix's gradients sum two sequences.
const F64: Tolerance = Tolerance::new(5e-11, 1e-10);
const F32: Tolerance = Tolerance::new(5e-4, 5e-4);

/// A call of attention, and a prefix.
#[derive(Clone, Debug)]
struct Case {
    own: cases::Case,
    prefix_k: Array3<f64>,
    prefix_v: Array3<f64>,
}

impl Case {
    fn new(own: cases::Case, prefix: usize, key: u64) -> Self {
        let random = Philox4x32::new(key);
        let draw = |stream: u64, own: &Array4<f64>| {
            let mut i = 0;
            Array3::from_shape_simple_fn((own.dim().1, prefix, own.dim().3), || {
                i += 1;
                random.normal_f64(stream, i)
            })
        };
        let (prefix_k, prefix_v) = (draw(0, &own.k), draw(1, &own.v));
        Self {
            own,
            prefix_k,
            prefix_v,
        }
    }

    fn forward(&self) -> (Array4<f64>, Array3<f64>) {
        let cases::Case {
            q, k, v, config, ..
        } = &self.own;
        prefix::forward(q, k, v, &self.prefix_k, &self.prefix_v, config).unwrap()
    }

    fn backward(&self) -> prefix::Gradients<f64> {
        let cases::Case {
            q,
            k,
            v,
            config,
            dout,
        } = &self.own;
        let (out, lse) = self.forward();
        let (pk, pv) = (&self.prefix_k, &self.prefix_v);
        prefix::backward(dout, q, k, v, pk, pv, &out, &lse, config).unwrap()
    }

    fn reference(&self) -> (Array4<f64>, Array3<f64>, prefix::Gradients<f64>) {
        let cases::Case {
            q,
            k,
            v,
            config,
            dout,
        } = &self.own;
        let (pk, pv) = (&self.prefix_k, &self.prefix_v);
        let (out, lse) = reference::prefix::forward(q, k, v, pk, pv, config).unwrap();
        let gradients = reference::prefix::backward(dout, q, k, v, pk, pv, config).unwrap();
        (out, lse, gradients)
    }

    /// The call with the prefix copied before the keys of each sequence.
    fn joined(&self, mask: Mask) -> cases::Case {
        let join = |prefix: &Array3<f64>, own: &Array4<f64>| {
            let (heads, length, width) = prefix.dim();
            let copies = prefix
                .broadcast((own.dim().0, heads, length, width))
                .unwrap();
            concatenate![Axis(2), copies, own.view()]
        };
        let mut config = self.own.config;
        config.mask = mask;
        cases::Case {
            k: join(&self.prefix_k, &self.own.k),
            v: join(&self.prefix_v, &self.own.v),
            config,
            ..self.own.clone()
        }
    }
}

/// Any sizes, zero included, any mask; prefixes of any length.
fn cases() -> impl Strategy<Value = Case> {
    (cases::cases(), 0_usize..12, any::<u64>())
        .prop_map(|(own, prefix, key)| Case::new(own, prefix, key))
}

fn close_gradients(
    got: &prefix::Gradients<f64>,
    want: &prefix::Gradients<f64>,
    tolerance: Tolerance,
) -> Result<(), TestCaseError> {
    close(&got.dq, &want.dq, tolerance)?;
    close(&got.dk, &want.dk, tolerance)?;
    close(&got.dv, &want.dv, tolerance)?;
    close(&got.dprefix_k, &want.dprefix_k, tolerance)?;
    close(&got.dprefix_v, &want.dprefix_v, tolerance)
}

proptest! {
    /// Two parts merged are the textbook's joined keys, forward and backward, under any mask.
    #[test]
    fn equals_the_reference(case in cases()) {
        let (want, want_lse, want_grads) = case.reference();
        let (out, lse) = case.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        close_gradients(&case.backward(), &want_grads, F64)?;
    }

    #[test]
    fn equals_the_reference_in_f32(case in cases()) {
        let (want, want_lse, want_grads) = case.reference();
        let narrow = |x: &Array4<f64>| x.mapv(|x| x as f32);
        let cases::Case { q, k, v, dout, config } = &case.own;
        let [q, k, v, dout] = [q, k, v, dout].map(narrow);
        let [pk, pv] = [&case.prefix_k, &case.prefix_v].map(|x| x.mapv(|x| x as f32));
        let (out, lse) = prefix::forward(&q, &k, &v, &pk, &pv, config).unwrap();
        close(&out.mapv(f64::from), &want, F32)?;
        close(&lse.mapv(f64::from), &want_lse, F32)?;
        let got = prefix::backward(&dout, &q, &k, &v, &pk, &pv, &out, &lse, config).unwrap();
        let got = prefix::Gradients {
            dq: got.dq.mapv(f64::from),
            dk: got.dk.mapv(f64::from),
            dv: got.dv.mapv(f64::from),
            dprefix_k: got.dprefix_k.mapv(f64::from),
            dprefix_v: got.dprefix_v.mapv(f64::from),
        };
        close_gradients(&got, &want_grads, F32)?;
    }

    /// With joined keys the same is a prefix LM, for either alignment once the prefix is counted in.
    #[test]
    fn it_is_a_prefix_lm_on_joined_keys(mut case in cases(), alignment in alignments()) {
        case.own.config.mask = Mask::Causal(alignment);
        let (seq, kv_seq, length) = (case.own.q.dim().2, case.own.k.dim().2, case.prefix_k.dim().1);
        // At the top left the diagonal of the joined keys starts `prefix` later: only the other
        // alignment can say so, if there are as many keys as queries.
        prop_assume!(alignment == CausalAlignment::BottomRight || seq == kv_seq);
        let alignment = CausalAlignment::BottomRight;
        let joined = case.joined(Mask::PrefixLm { prefix: length, alignment });
        let (want, want_lse) = joined.forward();
        let (out, lse) = case.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let (got, want) = (case.backward(), joined.backward());
        close(&got.dq, &want.dq, F64)?;
        let own = s![.., .., length.., ..];
        close(&got.dk, &want.dk.slice(own).to_owned(), F64)?;
        close(&got.dv, &want.dv.slice(own).to_owned(), F64)?;
        let of_prefix = s![.., .., ..length, ..];
        close(&got.dprefix_k, &want.dk.slice(of_prefix).sum_axis(Axis(0)), F64)?;
        close(&got.dprefix_v, &want.dv.slice(of_prefix).sum_axis(Axis(0)), F64)?;
        if seq <= kv_seq {
            // Then all queries see the whole prefix under the plain causal mask too.
            let (want, _) = case.joined(Mask::Causal(alignment)).forward();
            close(&out, &want, F64)?;
        }
    }

    /// Without a prefix it is attention, bit for bit.
    #[test]
    fn no_prefix_changes_nothing(own in cases::cases()) {
        let case = Case::new(own, 0, 0);
        prop_assert_eq!(case.forward(), case.own.forward());
    }

    /// What the sequences do to the prefix adds up: each alone gives its share.
    #[test]
    fn sequences_share_the_gradient_of_the_prefix(own in non_empty_cases(), length in 1_usize..6) {
        let case = Case::new(own, length, 5);
        let all = case.backward();
        let mut sum = Array3::zeros(case.prefix_k.dim());
        for b in 0..case.own.q.dim().0 {
            let row = |x: &Array4<f64>| x.slice(s![b..=b, .., .., ..]).to_owned();
            let cases::Case { q, k, v, dout, config } = &case.own;
            let own = cases::Case { q: row(q), k: row(k), v: row(v), dout: row(dout), config: *config };
            let one = Case { own, ..case.clone() };
            sum += &one.backward().dprefix_k;
        }
        close(&all.dprefix_k, &sum, F64)?;
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let sizes = Sizes {
        batch: 2,
        n_heads: 4,
        n_kv_heads: 2,
        seq: 3,
        kv_seq: 4,
        head_dim: 3,
        value_dim: 5,
    };
    let config = AttentionConfig::new(Mask::last_keys(
        std::num::NonZero::new(2).unwrap(),
        CausalAlignment::BottomRight,
    ));
    let case = Case::new(cases::Case::new(sizes, config, 3), 3, 4);
    let loss = |case: &Case| (case.reference().0 * &case.own.dout).sum();
    let settings = GradientCheck::new();
    for got in [case.backward(), case.reference().2] {
        let f = |x: &Array4<f64>| {
            let mut case = case.clone();
            case.own.q = x.clone();
            loss(&case)
        };
        assert_gradient(f, &case.own.q, &got.dq, &settings);
        let f = |x: &Array4<f64>| {
            let mut case = case.clone();
            case.own.k = x.clone();
            loss(&case)
        };
        assert_gradient(f, &case.own.k, &got.dk, &settings);
        let f = |x: &Array4<f64>| {
            let mut case = case.clone();
            case.own.v = x.clone();
            loss(&case)
        };
        assert_gradient(f, &case.own.v, &got.dv, &settings);
        let f = |x: &Array3<f64>| {
            let mut case = case.clone();
            case.prefix_k = x.clone();
            loss(&case)
        };
        assert_gradient(f, &case.prefix_k, &got.dprefix_k, &settings);
        let f = |x: &Array3<f64>| {
            let mut case = case.clone();
            case.prefix_v = x.clone();
            loss(&case)
        };
        assert_gradient(f, &case.prefix_v, &got.dprefix_v, &settings);
    }
}

// A window of one key passes no prefix by: query 1 sees prefix key 0 (score ln 2, value 4) and
// its own key (score 0, value 1): (2 * 4 + 1) / 3 = 3.
#[test]
fn a_window_does_not_hide_the_prefix() {
    let q = array![[[[1.0], [1.0]]]];
    let k = Array4::zeros((1, 1, 2, 1));
    let v = array![[[[100.0], [1.0]]]];
    let (pk, pv) = (array![[[2_f64.ln()]]], array![[[4.0]]]);
    let window = Mask::last_keys(
        std::num::NonZero::<usize>::MIN,
        CausalAlignment::BottomRight,
    );
    let config = AttentionConfig::new(window);
    let (out, lse) = prefix::forward(&q, &k, &v, &pk, &pv, &config).unwrap();
    assert_close(
        &out.slice(s![0, 0, 1, ..]),
        &array![3.0],
        Tolerance::new(1e-15, 0.0),
    );
    assert_close(
        &lse.slice(s![0, 0, 1..]),
        &array![3_f64.ln()],
        Tolerance::new(1e-15, 0.0),
    );
}

#[test]
fn a_prefix_must_fit_the_keys() {
    let (q, k) = (
        Array4::<f64>::ones((2, 4, 3, 8)),
        Array4::ones((2, 2, 5, 8)),
    );
    let v = Array4::ones((2, 2, 5, 6));
    let config = AttentionConfig::new(Mask::Full);
    let (out, lse) = flash::forward_with_lse(&q, &k, &v, &config).unwrap();
    let (good_k, good_v) = ([2, 7, 8], [2, 7, 6]);
    for (pk, pv, name, expected, got) in [
        ([1, 7, 8], good_v, "prefix_k", good_k, [1, 7, 8]),
        ([2, 7, 9], good_v, "prefix_k", good_k, [2, 7, 9]),
        (good_k, [2, 6, 6], "prefix_v", good_v, [2, 6, 6]),
        (good_k, [4, 7, 6], "prefix_v", good_v, [4, 7, 6]),
        (good_k, [2, 7, 8], "prefix_v", good_v, [2, 7, 8]),
    ] {
        let (pk, pv) = (Array3::ones(pk), Array3::ones(pv));
        let want = AttentionError::PrefixShape {
            name,
            expected,
            got,
        };
        let found = prefix::forward(&q, &k, &v, &pk, &pv, &config);
        assert_eq!(found.unwrap_err(), want);
        let found = prefix::backward(&out, &q, &k, &v, &pk, &pv, &out, &lse, &config);
        assert_eq!(found.unwrap_err(), want);
        let found = reference::prefix::forward(&q, &k, &v, &pk, &pv, &config);
        assert_eq!(found.unwrap_err(), want);
        let found = reference::prefix::backward(&out, &q, &k, &v, &pk, &pv, &config);
        assert_eq!(found.unwrap_err(), want);
    }
    let want = AttentionError::PrefixShape {
        name: "prefix_k",
        expected: [2, 7, 8],
        got: [1, 7, 8],
    };
    assert_eq!(
        want.to_string(),
        "prefix_k must have shape [2, 7, 8], got [1, 7, 8]"
    );
}

#[test]
fn what_comes_back_must_fit() {
    let (q, k) = (
        Array4::<f64>::ones((2, 4, 3, 8)),
        Array4::ones((2, 2, 5, 8)),
    );
    let (p, config) = (Array3::ones((2, 7, 8)), AttentionConfig::new(Mask::Full));
    let (out, lse) = prefix::forward(&q, &k, &k, &p, &p, &config).unwrap();
    let bad = Array4::ones((2, 4, 3, 7));
    let want = AttentionError::Shape {
        name: "dout",
        expected: [2, 4, 3, 8],
        got: [2, 4, 3, 7],
    };
    let got = prefix::backward(&bad, &q, &k, &k, &p, &p, &out, &lse, &config);
    assert_eq!(got.unwrap_err(), want);
    let short = Array3::zeros((2, 4, 2));
    let want = AttentionError::LseShape {
        expected: [2, 4, 3],
        got: [2, 4, 2],
    };
    let got = prefix::backward(&out, &q, &k, &k, &p, &p, &out, &short, &config);
    assert_eq!(got.unwrap_err(), want);
    // Keys of another batch.
    let k = Array4::ones((1, 2, 5, 8));
    let want = AttentionError::Shape {
        name: "k",
        expected: [2, 2, 5, 8],
        got: [1, 2, 5, 8],
    };
    assert_eq!(
        prefix::forward(&q, &k, &k, &p, &p, &config).unwrap_err(),
        want
    );
}
