//! Laws of ALiBi, biases, boolean masks and dropout, over the documented domain.

mod dropout;
mod errors;
mod hidden;
mod precision;

use llm_attention::score_mods::{self, Gradients};
use llm_attention::{
    AlibiOrigin, AttentionConfig, CausalAlignment, Dropout, Mask, MaskPolarity, ScoreMods,
    reference, sinks,
};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::Tolerance;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use ndarray::{Array1, Array3, Array4, Axis, array, s};
use proptest::prelude::*;

use crate::cases::{Case, Sizes, cases, close, non_empty_cases};

/// As in `properties.rs`.
const F64: Tolerance = Tolerance::new(1e-11, 1e-10);

/// A choice of modifications, drawn before the sizes of the call are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) alibi: Option<AlibiOrigin>,
    /// Which axes have the length 1, and whether some numbers are `-inf`.
    pub(crate) bias: Option<([bool; 4], bool)>,
    pub(crate) mask: Option<([bool; 4], MaskPolarity)>,
    pub(crate) dropout: Option<Dropout>,
}

/// The arrays of a choice.
pub(crate) struct Arrays {
    pub(crate) slopes: Array1<f64>,
    pub(crate) bias: Array4<f64>,
    pub(crate) mask: Array4<bool>,
}

pub(crate) fn choices() -> impl Strategy<Value = Choice> {
    let origin = prop::sample::select(vec![
        AlibiOrigin::KeyIndex,
        AlibiOrigin::LastKeyZero,
        AlibiOrigin::AbsoluteDistance,
        AlibiOrigin::SignedDistance,
        AlibiOrigin::PastDistance,
    ]);
    let polarity = prop::sample::select(vec![MaskPolarity::TrueAttends, MaskPolarity::TrueHides]);
    let dropout = (0.0_f64..0.9, any::<u64>(), any::<u64>())
        .prop_map(|(rate, key, offset)| Dropout { rate, key, offset });
    (
        prop::option::of(origin),
        prop::option::of((any::<[bool; 4]>(), any::<bool>())),
        prop::option::of((any::<[bool; 4]>(), polarity)),
        prop::option::of(dropout),
    )
        .prop_map(|(alibi, bias, mask, dropout)| Choice {
            alibi,
            bias,
            mask,
            dropout,
        })
}

impl Choice {
    pub(crate) fn arrays(&self, case: &Case) -> Arrays {
        let (batch, n_heads, seq, _) = case.q.dim();
        self.arrays_of([batch, n_heads, seq, case.k.dim().2])
    }

    /// For scores of this shape.
    pub(crate) fn arrays_of(&self, shape: [usize; 4]) -> Arrays {
        let shrink = |ones: [bool; 4]| {
            std::array::from_fn::<_, 4, _>(|axis| if ones[axis] { 1 } else { shape[axis] })
        };
        let random = Philox4x32::new(11);
        let mut index = 0;
        let mut draw = || {
            index += 1;
            random.uniform_f64(0, index)
        };
        let (ones, holes) = self.bias.unwrap_or_default();
        let bias = Array4::from_shape_simple_fn(shrink(ones), || match draw() {
            x if holes && x < 0.3 => f64::NEG_INFINITY,
            x => 4.0 * x - 2.0,
        });
        let ones = self.mask.map(|(ones, _)| ones).unwrap_or_default();
        let mask = Array4::from_shape_simple_fn(shrink(ones), || draw() < 0.5);
        let slopes = Array1::from_shape_simple_fn(shape[1], || 2.0 * draw() - 0.5);
        Arrays { slopes, bias, mask }
    }

    pub(crate) fn mods<'a>(&self, arrays: &'a Arrays) -> ScoreMods<'a, f64> {
        let mut mods = ScoreMods::new();
        if let Some(origin) = self.alibi {
            mods = mods.with_alibi(&arrays.slopes, origin);
        }
        if self.bias.is_some() {
            mods = mods.with_bias(&arrays.bias);
        }
        if let Some((_, polarity)) = self.mask {
            mods = mods.with_mask(&arrays.mask, polarity);
        }
        mods.dropout = self.dropout;
        mods
    }
}

fn forward(case: &Case, mods: &ScoreMods<'_, f64>) -> (Array4<f64>, Array3<f64>) {
    score_mods::forward(&case.q, &case.k, &case.v, mods, &case.config).unwrap()
}

fn backward(case: &Case, mods: &ScoreMods<'_, f64>) -> Gradients<f64> {
    let (q, k, v, config) = (&case.q, &case.k, &case.v, &case.config);
    let (out, lse) = forward(case, mods);
    score_mods::backward(&case.dout, q, k, v, &out, &lse, mods, config).unwrap()
}

fn gradients_close(
    got: &Gradients<f64>,
    want: &Gradients<f64>,
    tolerance: Tolerance,
) -> Result<(), TestCaseError> {
    close(&got.inputs.dq, &want.inputs.dq, tolerance)?;
    close(&got.inputs.dk, &want.inputs.dk, tolerance)?;
    close(&got.inputs.dv, &want.inputs.dv, tolerance)?;
    prop_assert_eq!(got.dbias.is_some(), want.dbias.is_some());
    if let (Some(got), Some(want)) = (&got.dbias, &want.dbias) {
        close(got, want, tolerance)?;
    }
    prop_assert_eq!(got.dslopes.is_some(), want.dslopes.is_some());
    if let (Some(got), Some(want)) = (&got.dslopes, &want.dslopes) {
        close(got, want, tolerance)?;
    }
    Ok(())
}

proptest! {
    /// By tiles, and as a textbook has it: results and all gradients.
    #[test]
    fn equals_the_reference(case in cases(), choice in choices()) {
        let arrays = choice.arrays(&case);
        let mods = choice.mods(&arrays);
        let (q, k, v, config) = (&case.q, &case.k, &case.v, &case.config);
        let (want, want_lse) = reference::score_mods::forward(q, k, v, &mods, config).unwrap();
        let (out, lse) = forward(&case, &mods);
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let want = reference::score_mods::backward(&case.dout, q, k, v, &mods, config).unwrap();
        gradients_close(&backward(&case, &mods), &want, F64)?;
    }

    /// ALiBi is a bias of slope times distance; a mask is a bias of `-inf`, and the other polarity
    /// is the opposite mask.
    #[test]
    fn three_ways_to_say_the_same(case in non_empty_cases(), choice in choices()) {
        let arrays = choice.arrays(&case);
        let (seq, kv_seq) = (case.q.dim().2, case.k.dim().2);
        let origin = choice.alibi.unwrap_or(AlibiOrigin::SignedDistance);
        let (got, got_lse) = forward(&case, &ScoreMods::new().with_alibi(&arrays.slopes, origin));
        let distances = reference::score_mods::alibi_matrix(origin, seq, kv_seq);
        let heads = arrays.slopes.map(|slope| &distances * *slope);
        let views: Vec<_> = heads.iter().map(|head| head.view()).collect();
        let bias = ndarray::stack(Axis(0), &views).unwrap().insert_axis(Axis(0));
        let (want, want_lse) = forward(&case, &ScoreMods::new().with_bias(&bias));
        close(&got, &want, F64)?;
        close(&got_lse, &want_lse, F64)?;

        let attends = ScoreMods::new().with_mask(&arrays.mask, MaskPolarity::TrueAttends);
        let opposite = arrays.mask.mapv(|x| !x);
        let hides = ScoreMods::new().with_mask(&opposite, MaskPolarity::TrueHides);
        let bias = arrays.mask.mapv(|sees| if sees { 0.0 } else { f64::NEG_INFINITY });
        let biased = ScoreMods::new().with_bias(&bias);
        let got = (forward(&case, &attends), backward(&case, &attends).inputs);
        prop_assert_eq!(&(forward(&case, &hides), backward(&case, &hides).inputs), &got);
        prop_assert_eq!(&(forward(&case, &biased), backward(&case, &biased).inputs), &got);
    }

    /// A boolean mask that says what the mask of the config says gives the same result.
    #[test]
    fn a_mask_of_the_config_as_an_array(mut case in non_empty_cases()) {
        let (seq, kv_seq) = (case.q.dim().2, case.k.dim().2);
        let mask = reference::attention::mask_matrix(case.config.mask, seq, kv_seq);
        let mask = mask.insert_axis(Axis(0)).insert_axis(Axis(0));
        let (want, want_lse) = case.forward();
        let want_grads = case.backward();
        case.config.mask = Mask::Full;
        let mods = ScoreMods::new().with_mask(&mask, MaskPolarity::TrueAttends);
        let (got, got_lse) = forward(&case, &mods);
        close(&got, &want, F64)?;
        close(&got_lse, &want_lse, F64)?;
        let got = backward(&case, &mods).inputs;
        close(&got.dq, &want_grads.dq, F64)?;
        close(&got.dk, &want_grads.dk, F64)?;
        close(&got.dv, &want_grads.dv, F64)?;
    }

    /// What a mask hides from all queries may be anything.
    #[test]
    fn hidden_keys_may_be_nan(
        mut case in non_empty_cases(),
        hidden in prop::collection::vec(any::<bool>(), 20),
        junk in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
        by_bias in any::<bool>(),
    ) {
        let kv_seq = case.k.dim().2;
        let mask = Array4::from_shape_fn((1, 1, 1, kv_seq), |(.., j)| hidden[j]);
        let bias = mask.mapv(|hidden| if hidden { f64::NEG_INFINITY } else { 0.5 });
        let mods = if by_bias {
            ScoreMods::new().with_bias(&bias)
        } else {
            ScoreMods::new().with_mask(&mask, MaskPolarity::TrueHides)
        };
        let want = (forward(&case, &mods), backward(&case, &mods));
        for j in (0..kv_seq).filter(|&j| hidden[j]) {
            case.k.slice_mut(s![.., .., j, ..]).fill(junk);
            case.v.slice_mut(s![.., .., j, ..]).fill(junk);
        }
        let got = (forward(&case, &mods), backward(&case, &mods));
        close(&got.0.0, &want.0.0, F64)?;
        close(&got.0.1, &want.0.1, F64)?;
        gradients_close(&got.1, &want.1, F64)?;
    }

    /// Each batch row alone, with the streams that belong to it, gives what it gives among others.
    #[test]
    fn dropout_does_not_depend_on_the_packing(case in non_empty_cases(), choice in choices()) {
        let dropout = choice.dropout.unwrap_or(Dropout { rate: 0.4, key: 3, offset: 8 });
        let (want, _) = forward(&case, &ScoreMods::new().with_dropout(dropout));
        let (batch, n_heads, seq, _) = case.q.dim();
        for b in 0..batch {
            let mut alone = case.clone();
            for x in [&mut alone.q, &mut alone.k, &mut alone.v] {
                *x = x.slice(s![b..b + 1, .., .., ..]).to_owned();
            }
            let offset = dropout.offset.wrapping_add((b * n_heads * seq) as u64);
            let mods = ScoreMods::new().with_dropout(Dropout { offset, ..dropout });
            close(&forward(&alone, &mods).0, &want.slice(s![b..b + 1, .., .., ..]).to_owned(), F64)?;
        }
    }

    /// A rate of 0 and arrays that add nothing change no bit.
    #[test]
    fn nothing_is_nothing(case in cases()) {
        let mut plain = case.clone();
        plain.config.query_tile = plain.config.query_tile.max(2);
        let (slopes, bias) = (Array1::zeros(case.q.dim().1), Array4::zeros((1, 1, 1, 1)));
        let mask = Array4::from_elem((1, 1, 1, 1), true);
        let mods = ScoreMods::new()
            .with_alibi(&slopes, AlibiOrigin::KeyIndex)
            .with_bias(&bias)
            .with_mask(&mask, MaskPolarity::TrueAttends)
            .with_dropout(Dropout { rate: 0.0, key: 1, offset: 2 });
        let (out, lse) = forward(&case, &mods);
        prop_assert_eq!((out, lse), case.forward());
        prop_assert_eq!(backward(&case, &mods).inputs, case.backward());
    }

    /// Sinks come after, and the gradients follow.
    #[test]
    fn sinks_go_with_modifications(mut case in cases(), mut choice in choices()) {
        case.config.mask = Mask::Full;
        choice.dropout = None;
        let arrays = choice.arrays(&case);
        let mods = choice.mods(&arrays);
        let sink = &arrays.slopes; // some numbers, one for each head
        let (q, k, v, config) = (&case.q, &case.k, &case.v, &case.config);
        let (out, lse) = forward(&case, &mods);
        let (out, lse) = sinks::apply(&out, &lse, sink).unwrap();
        let got = score_mods::backward(&case.dout, q, k, v, &out, &lse, &mods, config).unwrap();
        // A sink is a key of score `sink` and of value zero: the same by a bias on one more key.
        let (b, h, n, _) = q.dim();
        let (_, kv_heads, m, _) = k.dim();
        let join = |axis: usize, x: &Array4<f64>, y: Array4<f64>| {
            ndarray::concatenate![Axis(axis), x.view(), y]
        };
        let longer = Case {
            k: join(2, k, Array4::zeros((b, kv_heads, 1, k.dim().3))),
            v: join(2, v, Array4::zeros((b, kv_heads, 1, v.dim().3))),
            ..case.clone()
        };
        let of_mods = Array4::from_shape_fn((b, h, n, m), |(b, h, i, j)| {
            let at = |shape: &[usize]| {
                let index = [b, h, i, j];
                std::array::from_fn::<_, 4, _>(|axis| if shape[axis] == 1 { 0 } else { index[axis] })
            };
            let alibi = mods.alibi.map_or(0.0, |(slopes, origin)| {
                slopes[h] * reference::score_mods::alibi_matrix(origin, n, m)[[i, j]]
            });
            let bias = mods.bias.map_or(0.0, |bias| bias[at(bias.shape())]);
            let attends = mods.mask.is_none_or(|(mask, polarity)| {
                mask[at(mask.shape())] == (polarity == MaskPolarity::TrueAttends)
            });
            if attends { alibi + bias } else { f64::NEG_INFINITY }
        });
        let of_sinks = Array4::from_shape_fn((b, h, n, 1), |(_, h, ..)| sink[h]);
        let bias = join(3, &of_mods, of_sinks);
        let with = ScoreMods::new().with_bias(&bias);
        let (want, want_lse) = forward(&longer, &with);
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let want = backward(&longer, &with);
        close(&got.inputs.dq, &want.inputs.dq, F64)?;
        close(&got.inputs.dk, &want.inputs.dk.slice(s![.., .., ..m, ..]).to_owned(), F64)?;
        close(&got.inputs.dv, &want.inputs.dv.slice(s![.., .., ..m, ..]).to_owned(), F64)?;
    }
}

/// A hand count: scores 0, ln 3 with a slope of ln 3 from key to key.
#[test]
fn alibi_by_hand() {
    let one = Array4::<f64>::ones((1, 1, 1, 1));
    let k = Array4::zeros((1, 1, 2, 1));
    let v = array![[[[4.0], [8.0]]]];
    let config = AttentionConfig::new(Mask::Full);
    let slopes = array![3_f64.ln()];
    // A single query stands beside the last key.
    for (origin, lse) in [
        (AlibiOrigin::KeyIndex, 4_f64.ln()),
        (AlibiOrigin::LastKeyZero, (4_f64 / 3.0).ln()),
        (AlibiOrigin::AbsoluteDistance, (4_f64 / 3.0).ln()),
        (AlibiOrigin::SignedDistance, (4_f64 / 3.0).ln()),
        (AlibiOrigin::PastDistance, (4_f64 / 3.0).ln()),
    ] {
        let mods = ScoreMods::new().with_alibi(&slopes, origin);
        let (out, got_lse) = score_mods::forward(&one, &k, &v, &mods, &config).unwrap();
        assert!((out[[0, 0, 0, 0]] - 7.0).abs() < 1e-12, "{origin:?}"); // weights 1/4 and 3/4
        assert!((got_lse[[0, 0, 0]] - lse).abs() < 1e-12, "{origin:?}");
    }
}

/// Finite padding whose products overflow: hidden, so it changes nothing, in the gradients either.
#[test]
fn hidden_products_may_overflow() {
    let sizes = Sizes {
        batch: 1,
        n_heads: 2,
        n_kv_heads: 1,
        seq: 3,
        kv_seq: 4,
        head_dim: 2,
        value_dim: 2,
    };
    let config = AttentionConfig::new(Mask::Full).with_softcap(2.0);
    let mut case = Case::new(sizes, config, 6);
    case.q.mapv_inplace(|x| 10.0 + x.abs());
    let mask = array![[[[true, true, true, false]]]];
    let mods = ScoreMods::new().with_mask(&mask, MaskPolarity::TrueAttends);
    let want = backward(&case, &mods);
    case.k.slice_mut(s![.., .., 3, 0]).fill(f64::MAX);
    case.k.slice_mut(s![.., .., 3, 1]).fill(f64::MIN);
    let got = backward(&case, &mods);
    for (got, want) in [
        (&got.inputs.dq, &want.inputs.dq),
        (&got.inputs.dk, &want.inputs.dk),
    ] {
        close(got, want, F64).unwrap();
    }
}

/// A row of scores that are all `-inf` sees nothing, whatever the values are: one query as several.
#[test]
fn scores_of_minus_infinity_leave_nothing() {
    let k = Array4::from_elem((1, 1, 3, 1), f64::NEG_INFINITY);
    let v = Array4::from_elem((1, 1, 3, 2), f64::INFINITY);
    for seq in [1, 2] {
        let q = Array4::ones((1, 1, seq, 1));
        let config = AttentionConfig::new(Mask::Full);
        let (out, lse) = score_mods::forward(&q, &k, &v, &ScoreMods::new(), &config).unwrap();
        assert!(out.iter().all(|x| *x == 0.0), "{seq}: {out}");
        assert!(lse.iter().all(|x| *x == f64::NEG_INFINITY));
    }
}

/// Every gradient against finite differences of the textbook form.
#[test]
fn gradients_equal_finite_differences() {
    let sizes = Sizes {
        batch: 2,
        n_heads: 4,
        n_kv_heads: 2,
        seq: 4,
        kv_seq: 5,
        head_dim: 3,
        value_dim: 2,
    };
    let mask = Mask::Causal(CausalAlignment::BottomRight);
    let config = AttentionConfig::new(mask).with_softcap(2.0).with_tile(2, 3);
    let case = Case::new(sizes, config, 5);
    let choice = Choice {
        alibi: Some(AlibiOrigin::AbsoluteDistance),
        bias: Some(([true, false, true, false], false)),
        mask: Some(([false, true, false, false], MaskPolarity::TrueAttends)),
        dropout: Some(Dropout {
            rate: 0.3,
            key: 9,
            offset: 1,
        }),
    };
    let arrays = choice.arrays(&case);
    let mods = choice.mods(&arrays);
    let got = backward(&case, &mods);
    let loss = |case: &Case, mods: &ScoreMods<'_, f64>| {
        let (q, k, v) = (&case.q, &case.k, &case.v);
        let (out, _) = reference::score_mods::forward(q, k, v, mods, &case.config).unwrap();
        (out * &case.dout).sum()
    };
    let check = GradientCheck::new();
    let of_slopes = |slopes: &Array1<f64>| {
        let mut mods = mods;
        mods.alibi = Some((slopes, AlibiOrigin::AbsoluteDistance));
        loss(&case, &mods)
    };
    assert_gradient(of_slopes, &arrays.slopes, &got.dslopes.unwrap(), &check);
    let of_bias = |bias: &Array4<f64>| {
        let mut mods = mods;
        mods.bias = Some(bias);
        loss(&case, &mods)
    };
    assert_gradient(of_bias, &arrays.bias, &got.dbias.unwrap(), &check);
    let with = |set: &dyn Fn(&mut Case)| {
        let mut case = case.clone();
        set(&mut case);
        loss(&case, &mods)
    };
    let (dq, dk, dv) = (got.inputs.dq, got.inputs.dk, got.inputs.dv);
    assert_gradient(
        |x: &Array4<f64>| with(&|case| case.q = x.clone()),
        &case.q,
        &dq,
        &check,
    );
    assert_gradient(
        |x: &Array4<f64>| with(&|case| case.k = x.clone()),
        &case.k,
        &dk,
        &check,
    );
    assert_gradient(
        |x: &Array4<f64>| with(&|case| case.v = x.clone()),
        &case.v,
        &dv,
        &check,
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
        seq: 130,
        kv_seq: 150,
        head_dim: 16,
        value_dim: 16,
    };
    let case = Case::new(sizes, AttentionConfig::new(Mask::Full), 5);
    let choice = Choice {
        alibi: Some(AlibiOrigin::PastDistance),
        bias: Some(([true, false, false, false], true)),
        mask: Some(([false, true, true, false], MaskPolarity::TrueHides)),
        dropout: Some(Dropout {
            rate: 0.3,
            key: 9,
            offset: 1,
        }),
    };
    let arrays = choice.arrays(&case);
    let mods = choice.mods(&arrays);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let work = || (forward(&case, &mods), backward(&case, &mods));
        pool.build().unwrap().install(work)
    };
    let one = run(1);
    assert!(one.0.0.iter().all(|x| x.is_finite()));
    assert_eq!(run(2), one);
    assert_eq!(run(3), one);
}
