//! Latent attention: both forms against the textbook and each other, known answers, gradients.

mod errors;

use llm_attention::ndarray::{Array2, Array3, Array4, ArrayRef4, Axis, ShapeBuilder, array, s};
use llm_attention::{
    AttentionConfig, AttentionError, CausalAlignment, Mask, flash, mla, reference,
};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_numerics::testing::{Tolerance, assert_close};
use proptest::prelude::*;

use crate::cases::{close, masks};

/// Scores of 300 at most, so weights err by 1e-13 of themselves; gradients sum up to
/// 20 keys, 20 queries, 6 heads and 8 features of products of four numbers of size 3.
const F64: Tolerance = Tolerance::new(1e-9, 1e-9);
/// The same, with 1e-7 for 1e-16; weights of scores of 300 would be off by 3e-5 of themselves,
/// so the cases of this tolerance have scores of 30.
const F32: Tolerance = Tolerance::new(2e-3, 5e-4);

/// A call of forward and backward.
#[derive(Clone, Debug)]
struct Case {
    q: Array4<f64>,
    kv_latent: Array4<f64>,
    k_rope: Array4<f64>,
    kv_b_proj: Array2<f64>,
    dout: Array4<f64>,
    config: AttentionConfig,
}

/// Sizes: batch, heads, queries, keys; nope, rotary, value, latent.
#[derive(Clone, Copy, Debug)]
struct Sizes([usize; 4], [usize; 4]);

type Forward = fn(&Case) -> Result<(Array4<f64>, Array3<f64>), AttentionError>;
type Backward =
    fn(&Case, &Array4<f64>, &Array3<f64>) -> Result<mla::Gradients<f64>, AttentionError>;

const FORWARDS: [Forward; 2] = [
    |x| mla::forward_naive(&x.q, &x.kv_latent, &x.k_rope, &x.kv_b_proj, &x.config),
    |x| mla::forward_absorbed(&x.q, &x.kv_latent, &x.k_rope, &x.kv_b_proj, &x.config),
];
const BACKWARDS: [Backward; 2] = [
    |x, out, lse| {
        let (c, r, w) = (&x.kv_latent, &x.k_rope, &x.kv_b_proj);
        mla::backward_naive(&x.dout, &x.q, c, r, w, out, lse, &x.config)
    },
    |x, out, lse| {
        let (c, r, w) = (&x.kv_latent, &x.k_rope, &x.kv_b_proj);
        mla::backward_absorbed(&x.dout, &x.q, c, r, w, out, lse, &x.config)
    },
];

impl Case {
    fn new(sizes: Sizes, config: AttentionConfig, key: u64) -> Self {
        let Sizes([batch, n_heads, seq, kv_seq], [nope, rotary, value, latent]) = sizes;
        let random = Philox4x32::new(key);
        // All numbers are ones of `f32` too.
        let draw = |stream: u64, shape: [usize; 4]| {
            let mut i = 0;
            Array4::from_shape_simple_fn(shape, || {
                i += 1;
                f64::from(random.normal_f64(stream, i) as f32)
            })
        };
        let kv_b_proj = draw(3, [1, 1, n_heads * (nope + value), latent]);
        Self {
            q: draw(0, [batch, n_heads, seq, nope + rotary]),
            kv_latent: draw(1, [batch, 1, kv_seq, latent]),
            k_rope: draw(2, [batch, 1, kv_seq, rotary]),
            kv_b_proj: kv_b_proj
                .index_axis_move(Axis(0), 0)
                .index_axis_move(Axis(0), 0),
            dout: draw(4, [batch, n_heads, seq, value]),
            config,
        }
    }

    fn reference(&self) -> (Array4<f64>, Array3<f64>, mla::Gradients<f64>) {
        let (c, r, w) = (&self.kv_latent, &self.k_rope, &self.kv_b_proj);
        let (out, lse) = reference::mla::forward(&self.q, c, r, w, &self.config).unwrap();
        let gradients =
            reference::mla::backward(&self.dout, &self.q, c, r, w, &self.config).unwrap();
        (out, lse, gradients)
    }
}

/// Any sizes, zero included, any mask, any scale and softcap, any tiles.
fn cases() -> impl Strategy<Value = Case> {
    let tokens = (
        0_usize..3,
        0_usize..5,
        prop_oneof![0_usize..3, 0_usize..20],
        0_usize..20,
    );
    let features = (0_usize..7, 0_usize..5, 0_usize..7, 0_usize..9);
    let scale = prop_oneof![Just(None), (-1.0_f64..1.0).prop_map(Some)];
    let softcap = prop::option::weighted(0.3, 0.5_f64..50.0);
    let tiles = prop_oneof![Just((64, 64)), (1_usize..9, 1_usize..9)];
    (
        tokens,
        features,
        masks(),
        scale,
        softcap,
        tiles,
        any::<u64>(),
    )
        .prop_map(|(tokens, features, mask, scale, softcap, tiles, key)| {
            let mut config = AttentionConfig::new(mask).with_tile(tiles.0, tiles.1);
            config.scale = scale;
            config.softcap = softcap;
            // Without heads there are no rows to tell how long values are.
            let value = if tokens.1 == 0 { 0 } else { features.2 };
            let sizes = Sizes(tokens.into(), [features.0, features.1, value, features.3]);
            Case::new(sizes, config, key)
        })
}

fn close_gradients(
    got: &mla::Gradients<f64>,
    want: &mla::Gradients<f64>,
    tolerance: Tolerance,
) -> Result<(), TestCaseError> {
    close(&got.dq, &want.dq, tolerance)?;
    close(&got.dkv_latent, &want.dkv_latent, tolerance)?;
    close(&got.dk_rope, &want.dk_rope, tolerance)?;
    close(&got.dkv_b_proj, &want.dkv_b_proj, tolerance)
}

proptest! {
    /// Both forms are the textbook's, forward and backward, whichever forward the backward
    /// gets its arrays from. So both are each other's.
    #[test]
    fn both_forms_equal_the_reference(case in cases()) {
        let (want, want_lse, want_grads) = case.reference();
        for forward in FORWARDS {
            let (out, lse) = forward(&case).unwrap();
            close(&out, &want, F64)?;
            close(&lse, &want_lse, F64)?;
            for backward in BACKWARDS {
                close_gradients(&backward(&case, &out, &lse).unwrap(), &want_grads, F64)?;
            }
        }
    }

    /// In `f32`, in arrays of any strides.
    #[test]
    fn equals_the_reference_in_f32(mut case in cases()) {
        case.config.softcap = Some(30.0);
        let (want, want_lse, want_grads) = case.reference();
        let narrow = |x: &Array4<f64>| {
            let mut turned = Array4::<f32>::zeros(x.dim().f());
            turned.assign(&x.mapv(|x| x as f32));
            turned
        };
        let (q, c, r) = (narrow(&case.q), narrow(&case.kv_latent), narrow(&case.k_rope));
        let dout = narrow(&case.dout);
        let mut w = Array2::<f32>::zeros(case.kv_b_proj.dim().f());
        w.assign(&case.kv_b_proj.mapv(|x| x as f32));
        let config = &case.config;
        let (out, lse) = mla::forward_naive(&q, &c, &r, &w, config).unwrap();
        let (again, lse_again) = mla::forward_absorbed(&q, &c, &r, &w, config).unwrap();
        for (out, lse) in [(&out, &lse), (&again, &lse_again)] {
            close(&out.mapv(f64::from), &want, F32)?;
            close(&lse.mapv(f64::from), &want_lse, F32)?;
        }
        for got in [
            mla::backward_naive(&dout, &q, &c, &r, &w, &out, &lse, config).unwrap(),
            mla::backward_absorbed(&dout, &q, &c, &r, &w, &out, &lse, config).unwrap(),
        ] {
            let got = mla::Gradients {
                dq: got.dq.mapv(f64::from),
                dkv_latent: got.dkv_latent.mapv(f64::from),
                dk_rope: got.dk_rope.mapv(f64::from),
                dkv_b_proj: got.dkv_b_proj.mapv(f64::from),
            };
            close_gradients(&got, &want_grads, F32)?;
        }
    }

    /// A cache that holds latents and rotated keys side by side is read where it lies.
    #[test]
    fn pieces_make_the_absorbed_form(case in cases()) {
        let (want, want_lse) = FORWARDS[0](&case).unwrap();
        let rotary = case.k_rope.dim().3;
        let head_dim = case.q.dim().3;
        let nope = head_dim - rotary;
        let cache = ndarray::concatenate![Axis(3), case.kv_latent, case.k_rope];
        let latents = cache.slice(s![.., .., .., ..case.kv_latent.dim().3]);
        let absorbed = mla::absorb_queries(&case.q, &case.kv_b_proj, nope).unwrap();
        let scale = case.config.scale.unwrap_or(1.0 / (head_dim.max(1) as f64).sqrt());
        let config = case.config.with_scale(scale);
        let (out, lse) = flash::forward_with_lse(&absorbed, &cache, &latents, &config).unwrap();
        let out = mla::project_values(&out, &case.kv_b_proj, nope).unwrap();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
    }

    /// With the unit matrix for a projection and no rotated key, it is multi-query attention to
    /// the latents: keys and values are the latents.
    #[test]
    fn a_unit_projection_is_multi_query_attention(case in cases(), dim in 0_usize..6) {
        let (batch, n_heads, seq, _) = case.q.dim();
        let kv_seq = case.kv_latent.dim().2;
        let sizes = Sizes([batch, n_heads, seq, kv_seq], [dim, 0, dim, dim]);
        let mut case = Case::new(sizes, case.config, 7);
        let eye = Array2::<f64>::eye(dim);
        let of_head = ndarray::concatenate![Axis(0), eye, eye];
        let parts: Vec<_> = (0..n_heads).map(|_| of_head.view()).collect();
        if n_heads > 0 {
            case.kv_b_proj = ndarray::concatenate(Axis(0), &parts).unwrap();
        }
        let (q, c) = (&case.q, &case.kv_latent);
        let (want, want_lse) = flash::forward_with_lse(q, c, c, &case.config).unwrap();
        for forward in FORWARDS {
            let (out, lse) = forward(&case).unwrap();
            prop_assume!(n_heads > 0);
            close(&out, &want, F64)?;
            close(&lse, &want_lse, F64)?;
        }
    }

    /// `K_h` and the unrotated queries only meet in a product: a turn of the one and its
    /// inverse on the other change nothing. The same turn of the latents and of the columns
    /// of the projection changes nothing either.
    #[test]
    fn turned_features_change_nothing(case in cases(), angle in -3.0_f64..3.0) {
        let nope = case.q.dim().3 - case.k_rope.dim().3;
        let (want, want_lse) = FORWARDS[1](&case).unwrap();
        let (sin, cos) = angle.sin_cos();
        let mut turned = case.clone();
        let turn = |a: &mut f64, b: &mut f64| (*a, *b) = (cos * *a - sin * *b, sin * *a + cos * *b);
        if nope >= 2 {
            for mut row in turned.q.rows_mut() {
                let (mut a, mut b) = (row[0], row[1]);
                turn(&mut a, &mut b);
                (row[0], row[1]) = (a, b);
            }
            let of_head = case.kv_b_proj.nrows() / case.q.dim().1.max(1);
            for h in 0..case.q.dim().1 {
                for c in 0..case.kv_b_proj.ncols() {
                    let first = h * of_head;
                    let w = &mut turned.kv_b_proj;
                    let (mut a, mut b) = (w[[first, c]], w[[first + 1, c]]);
                    turn(&mut a, &mut b);
                    (w[[first, c]], w[[first + 1, c]]) = (a, b);
                }
            }
        }
        let swap = |mut row: ndarray::ArrayViewMut1<'_, f64>| {
            let last = row.len().saturating_sub(1);
            if last > 0 {
                row.swap(0, last);
            }
        };
        turned.kv_latent.rows_mut().into_iter().for_each(swap);
        turned.kv_b_proj.rows_mut().into_iter().for_each(swap);
        for forward in FORWARDS {
            let (out, lse) = forward(&turned).unwrap();
            close(&out, &want, F64)?;
            close(&lse, &want_lse, F64)?;
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for (mask, tokens) in [
        (Mask::Full, [2, 2, 3, 4]),
        (Mask::Causal(CausalAlignment::BottomRight), [1, 3, 4, 3]), // the first query is blind
        (Mask::Causal(CausalAlignment::BottomRight), [2, 2, 1, 5]),
    ] {
        let config = AttentionConfig::new(mask);
        for config in [config, config.with_scale(-0.4).with_softcap(1.5)] {
            let case = Case::new(Sizes(tokens, [3, 2, 4, 5]), config, 3);
            let (out, lse) = FORWARDS[0](&case).unwrap();
            let (.., of_reference) = case.reference();
            check(&case, &of_reference);
            for backward in BACKWARDS {
                check(&case, &backward(&case, &out, &lse).unwrap());
            }
        }
    }
}

fn check(case: &Case, got: &mla::Gradients<f64>) {
    let (q, c, r, w) = (&case.q, &case.kv_latent, &case.k_rope, &case.kv_b_proj);
    let loss = |q: &Array4<f64>, c: &Array4<f64>, r: &Array4<f64>, w: &Array2<f64>| {
        let (out, _) = reference::mla::forward(q, c, r, w, &case.config).unwrap();
        (out * &case.dout).sum()
    };
    // Values of size 10 and weights that move with scores of size 10: third derivatives of 1e3.
    let settings = GradientCheck::new().with_richardson();
    assert_gradient(|q| loss(q, c, r, w), q, &got.dq, &settings);
    assert_gradient(|c| loss(q, c, r, w), c, &got.dkv_latent, &settings);
    assert_gradient(|r| loss(q, c, r, w), r, &got.dk_rope, &settings);
    assert_gradient(|w| loss(q, c, r, w), w, &got.dkv_b_proj, &settings);
}

// Two heads of one unrotated, one rotated and one value feature; latents of two. Head 0 has
// K = (1, 0), V = (0, 1); head 1 has K = (0, 1), V = (2, 2). Two keys:
//   c = (0, 6), r = 0     and     c = (ln 3, 2), r = 0 for head 0 (query (1, 0)):
//   scores 0 and ln 3, weights 1/4 and 3/4, values 6 and 2: out = 3, lse = ln 4.
// Head 1 asks (0, 1) of r = 0 and r = ln 2... so r is (0, ln 2):
//   scores 0 and ln 2, weights 1/3 and 2/3, values 12 and 2 (ln 3 + 2):
//   out = 4 + 4/3 (ln 3 + 2), lse = ln 3.
#[test]
fn two_heads_by_hand() {
    let (ln2, ln3, ln4) = (2_f64.ln(), 3_f64.ln(), 4_f64.ln());
    let case = Case {
        q: array![[[[1.0, 0.0]], [[0.0, 1.0]]]],
        kv_latent: array![[[[0.0, 6.0], [ln3, 2.0]]]],
        k_rope: array![[[[0.0], [ln2]]]],
        kv_b_proj: array![[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [2.0, 2.0]],
        dout: Array4::ones((1, 2, 1, 1)),
        config: AttentionConfig::new(Mask::Full).with_scale(1.0),
    };
    let want = array![[[[3.0]], [[4.0 + 4.0 / 3.0 * (ln3 + 2.0)]]]];
    let want_lse = array![[[ln4], [ln3]]];
    // Products of numbers below 12.
    let tolerance = Tolerance::new(1e-14, 1e-14);
    for forward in FORWARDS {
        let (out, lse) = forward(&case).unwrap();
        assert_close(&out, &want, tolerance);
        assert_close(&lse, &want_lse, tolerance);
    }
    let (out, lse, _) = case.reference();
    assert_close(&out, &want, tolerance);
    assert_close(&lse, &want_lse, tolerance);
}

// The default scale is that of the queries, not of what is compared in the absorbed form:
// 4 features with 9 latents beside. Scores 4 / sqrt(4) = 2 and 0.
#[test]
fn the_default_scale_counts_the_features_of_queries() {
    let mut case = Case::new(
        Sizes([1, 1, 1, 2], [3, 1, 1, 9]),
        AttentionConfig::new(Mask::Full),
        1,
    );
    case.q.fill(1.0);
    case.k_rope.assign(&array![[[[1.0], [0.0]]]]);
    case.kv_latent.fill(0.0);
    case.kv_latent[[0, 0, 0, 0]] = 1.0;
    case.kv_b_proj.fill(1.0);
    let want = (2_f64.exp() + 1.0).ln();
    for forward in FORWARDS {
        let (out, lse) = forward(&case).unwrap();
        assert!((lse[[0, 0, 0]] - want).abs() < 1e-14);
        assert!((out[[0, 0, 0, 0]] - 1.0 / (1.0 + (-2_f64).exp())).abs() < 1e-14);
    }
}

/// A hidden key may hold anything; a seen one with NaN makes the rows NaN that see it.
#[test]
fn nan_reaches_the_rows_that_see_it() {
    let mask = Mask::Causal(CausalAlignment::TopLeft);
    let config = AttentionConfig::new(mask).with_tile(2, 2);
    let mut case = Case::new(Sizes([1, 2, 4, 4], [3, 2, 2, 5]), config, 9);
    let (want, _) = FORWARDS[0](&case).unwrap();
    case.kv_latent[[0, 0, 2, 1]] = f64::NAN;
    for forward in FORWARDS {
        let (out, _) = forward(&case).unwrap();
        let early = s![.., .., ..2, ..];
        assert_close(&out.slice(early), &want.slice(early), F64);
        assert!(out.slice(s![.., .., 2.., ..]).iter().all(|x| x.is_nan()));
    }
}

/// Large enough to wake threads: one, two or three of them give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let case = Case::new(Sizes([2, 4, 70, 90], [32, 16, 24, 48]), config, 5);
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        pool.unwrap().install(|| {
            let found = FORWARDS.map(|forward| forward(&case).unwrap());
            let (out, lse) = &found[0];
            let gradients = BACKWARDS.map(|backward| backward(&case, out, lse).unwrap());
            (found, gradients)
        })
    };
    let want = run(1);
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
    let [naive, absorbed] = &want.0;
    assert_close(&absorbed.0, &naive.0, F64);
}

/// For the error tests: arrays of ones.
fn ones(shape: [usize; 4]) -> Array4<f64> {
    Array4::ones(shape)
}

/// The error of all functions that take the four arrays, which must be the same.
fn error(
    q: &ArrayRef4<f64>,
    c: &ArrayRef4<f64>,
    r: &ArrayRef4<f64>,
    w: &Array2<f64>,
) -> AttentionError {
    let config = AttentionConfig::new(Mask::Full);
    let (out, lse) = (ones([1, 1, 1, 1]), Array3::zeros((1, 1, 1)));
    let error = mla::forward_naive(q, c, r, w, &config).unwrap_err();
    assert_eq!(
        mla::forward_absorbed(q, c, r, w, &config).unwrap_err(),
        error
    );
    let got = mla::backward_naive(&out, q, c, r, w, &out, &lse, &config);
    assert_eq!(got.unwrap_err(), error);
    let got = mla::backward_absorbed(&out, q, c, r, w, &out, &lse, &config);
    assert_eq!(got.unwrap_err(), error);
    assert_eq!(
        reference::mla::forward(q, c, r, w, &config).unwrap_err(),
        error
    );
    let got = reference::mla::backward(&out, q, c, r, w, &config);
    assert_eq!(got.unwrap_err(), error);
    error
}
