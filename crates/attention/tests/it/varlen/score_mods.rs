//! Laws of modified scores in packed sequences.

use llm_attention::varlen::score_mods::{self, Gradients};
use llm_attention::{
    AlibiOrigin, AttentionConfig, AttentionError, CausalAlignment, Dropout, Mask, MaskPolarity,
    ScoreMods, reference, score_mods as batched, varlen,
};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::Tolerance;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use ndarray::{Array1, Array2, Array3, Array4, ArrayView4, Axis, Slice, s};
use proptest::prelude::*;

use super::{Packed, packed};
use crate::cases::close;
use crate::score_mods::{Arrays, Choice, choices};

/// As in `properties.rs`.
const F64: Tolerance = Tolerance::new(1e-11, 1e-10);

fn arrays_of(case: &Packed, choice: &Choice) -> Arrays {
    let (total, n_heads, _) = case.q.dim();
    choice.arrays_of([1, n_heads, total, case.k.dim().0])
}

fn forward(case: &Packed, mods: &ScoreMods<'_, f64>) -> (Array3<f64>, Array2<f64>) {
    let Packed { q, k, v, .. } = case;
    let (queries, keys) = (&case.cu_seqlens, &case.cu_kv_seqlens);
    score_mods::forward(q, k, v, queries, keys, mods, &case.config).unwrap()
}

fn backward(case: &Packed, mods: &ScoreMods<'_, f64>) -> Gradients<f64> {
    let (out, lse) = forward(case, mods);
    let Packed { q, k, v, dout, .. } = case;
    let (queries, keys, config) = (&case.cu_seqlens, &case.cu_kv_seqlens, &case.config);
    score_mods::backward(dout, q, k, v, &out, &lse, queries, keys, mods, config).unwrap()
}

/// `[1, heads, seq, features]` of the tokens, strides and all.
fn part<'a>(x: &'a Array3<f64>, tokens: &[usize]) -> ArrayView4<'a, f64> {
    let x = x.slice(s![tokens[0]..tokens[1], .., ..]);
    x.permuted_axes([1, 0, 2]).insert_axis(Axis(0))
}

/// What a bias or a mask has for a sequence.
fn block<T: Clone>(x: &Array4<T>, queries: &[usize], keys: &[usize]) -> Array4<T> {
    let mut x = x.view();
    for (axis, tokens) in [(Axis(2), queries), (Axis(3), keys)] {
        if x.len_of(axis) != 1 {
            x.slice_axis_inplace(axis, Slice::from(tokens[0]..tokens[1]));
        }
    }
    x.to_owned()
}

/// The modifications of a sequence alone, whose rows of dropout come after those of the sequences before.
fn alone<'a>(mods: &ScoreMods<'a, f64>, arrays: &'a Arrays, streams: usize) -> ScoreMods<'a, f64> {
    let mut alone = *mods;
    alone.bias = mods.bias.map(|_| &*arrays.bias);
    alone.mask = mods.mask.map(|(_, polarity)| (&*arrays.mask, polarity));
    if let Some(dropout) = &mut alone.dropout {
        dropout.offset = dropout.offset.wrapping_add(streams as u64);
    }
    alone
}

proptest! {
    /// All at once with blocks on the diagonal, as a textbook has it: results and all gradients.
    #[test]
    fn equals_the_reference(case in packed(), choice in choices()) {
        let arrays = arrays_of(&case, &choice);
        let mods = choice.mods(&arrays);
        let Packed { q, k, v, dout, config, .. } = &case;
        let (queries, keys) = (&case.cu_seqlens, &case.cu_kv_seqlens);
        let (want, want_lse) =
            reference::varlen::score_mods::forward(q, k, v, queries, keys, &mods, config).unwrap();
        let (out, lse) = forward(&case, &mods);
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let want = reference::varlen::score_mods::backward(
            dout, q, k, v, queries, keys, &mods, config,
        )
        .unwrap();
        let got = backward(&case, &mods);
        close(&got.inputs.dq, &want.inputs.dq, F64)?;
        close(&got.inputs.dk, &want.inputs.dk, F64)?;
        close(&got.inputs.dv, &want.inputs.dv, F64)?;
        prop_assert_eq!(got.dbias.is_some(), want.dbias.is_some());
        if let (Some(got), Some(want)) = (&got.dbias, &want.dbias) {
            close(got, want, F64)?;
        }
        prop_assert_eq!(got.dslopes.is_some(), want.dslopes.is_some());
        if let (Some(got), Some(want)) = (&got.dslopes, &want.dslopes) {
            close(got, want, F64)?;
        }
    }

    /// Each sequence is what it is alone, and the gradients that belong to all are sums over them: bit by bit,
    /// but for gradients whose strides differ, which round otherwise.
    #[test]
    fn each_sequence_is_as_alone(case in packed(), choice in choices()) {
        let arrays = arrays_of(&case, &choice);
        let mods = choice.mods(&arrays);
        let ((out, lse), grads) = (forward(&case, &mods), backward(&case, &mods));
        let n_heads = case.q.dim().1;
        let mut dslopes = Array1::<f64>::zeros(n_heads);
        let mut dbias = Array4::<f64>::zeros(arrays.bias.dim());
        for (queries, keys) in case.cu_seqlens.windows(2).zip(case.cu_kv_seqlens.windows(2)) {
            let arrays = Arrays {
                slopes: arrays.slopes.clone(),
                bias: block(&arrays.bias, queries, keys),
                mask: block(&arrays.mask, queries, keys),
            };
            let mods = alone(&mods, &arrays, n_heads * queries[0]);
            let (q, k, v) = (part(&case.q, queries), part(&case.k, keys), part(&case.v, keys));
            let (want, want_lse) = batched::forward(&q, &k, &v, &mods, &case.config).unwrap();
            let got_lse = lse.slice(s![.., queries[0]..queries[1]]).insert_axis(Axis(0));
            prop_assert_eq!(part(&out, queries), want);
            prop_assert_eq!(got_lse, want_lse);
            let (dout, out) = (part(&case.dout, queries), part(&out, queries));
            let alone =
                batched::backward(&dout, &q, &k, &v, &out, &got_lse, &mods, &case.config).unwrap();
            close(&part(&grads.inputs.dq, queries).to_owned(), &alone.inputs.dq, F64)?;
            close(&part(&grads.inputs.dk, keys).to_owned(), &alone.inputs.dk, F64)?;
            close(&part(&grads.inputs.dv, keys).to_owned(), &alone.inputs.dv, F64)?;
            if let Some(of_sequence) = alone.dslopes {
                dslopes += &of_sequence;
            }
            if let Some(of_sequence) = alone.dbias {
                let mut dbias = dbias.view_mut();
                for (axis, tokens) in [(Axis(2), queries), (Axis(3), keys)] {
                    if dbias.len_of(axis) != 1 {
                        dbias.slice_axis_inplace(axis, Slice::from(tokens[0]..tokens[1]));
                    }
                }
                dbias += &of_sequence;
            }
        }
        prop_assert_eq!(grads.dslopes, mods.alibi.map(|_| dslopes));
        prop_assert_eq!(grads.dbias, mods.bias.map(|_| dbias));
    }

    /// Sequences of one length are rows of a batch, with the same weights dropped.
    #[test]
    fn equal_lengths_are_a_batch(
        case in packed(),
        choice in choices(),
        (batch, seq, kv_seq) in (1_usize..4, 0_usize..7, 0_usize..7),
    ) {
        let mut case = case;
        let random = Philox4x32::new(4);
        let (_, n_heads, head_dim) = case.q.dim();
        let (_, n_kv_heads, value_dim) = case.v.dim();
        let draw = |stream: u64, shape: [usize; 3]| {
            let mut i = 0;
            Array3::from_shape_simple_fn(shape, || {
                i += 1;
                random.normal_f64(stream, i)
            })
        };
        case.q = draw(0, [batch * seq, n_heads, head_dim]);
        case.k = draw(1, [batch * kv_seq, n_kv_heads, head_dim]);
        case.v = draw(2, [batch * kv_seq, n_kv_heads, value_dim]);
        case.dout = draw(3, [batch * seq, n_heads, value_dim]);
        case.cu_seqlens = (0..=batch).map(|b| b * seq).collect();
        case.cu_kv_seqlens = (0..=batch).map(|b| b * kv_seq).collect();
        let arrays = choice.arrays_of([1, n_heads, 1, 1]);
        let mods = choice.mods(&arrays);
        let ((out, lse), grads) = (forward(&case, &mods), backward(&case, &mods));
        let rows = |x: &Array3<f64>| {
            let (tokens, heads, features) = x.dim();
            let x = x.to_shape((batch, tokens / batch, heads, features)).unwrap();
            x.into_owned().permuted_axes([0, 2, 1, 3])
        };
        let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(rows);
        let (want, want_lse) = batched::forward(&q, &k, &v, &mods, &case.config).unwrap();
        let want_grads =
            batched::backward(&dout, &q, &k, &v, &want, &want_lse, &mods, &case.config).unwrap();
        let lse = lse.to_shape((n_heads, batch, seq)).unwrap().permuted_axes([1, 0, 2]);
        prop_assert_eq!(rows(&out), want);
        prop_assert_eq!(lse.into_owned(), want_lse);
        close(&rows(&grads.inputs.dq), &want_grads.inputs.dq, F64)?;
        close(&rows(&grads.inputs.dk), &want_grads.inputs.dk, F64)?;
        close(&rows(&grads.inputs.dv), &want_grads.inputs.dv, F64)?;
        if let (Some(got), Some(want)) = (&grads.dslopes, &want_grads.dslopes) {
            close(got, want, F64)?;
        }
        if let (Some(got), Some(want)) = (&grads.dbias, &want_grads.dbias) {
            close(got, want, F64)?;
        }
    }
}

/// The words of the generator, taken by hand: sequences of 2 and 3 tokens, two heads.
#[test]
fn dropout_draws_anew_for_each_sequence() {
    let q = Array3::<f64>::zeros((5, 2, 1));
    let k = Array3::zeros((5, 1, 1));
    // Value `j` is seen in column `j`.
    let v = Array2::eye(5).insert_axis(Axis(1));
    let dropout = Dropout {
        rate: 0.5,
        key: 42,
        offset: 1000,
    };
    let mods = ScoreMods::new().with_dropout(dropout);
    let config = AttentionConfig::new(Mask::Full);
    let starts = [0, 2, 5];
    let (out, _) = score_mods::forward(&q, &k, &v, &starts, &starts, &mods, &config).unwrap();
    // The first stream of each query of each head: 2 heads times 2 queries come first.
    let streams = [
        [1000, 1002],
        [1001, 1003],
        [1004, 1007],
        [1005, 1008],
        [1006, 1009],
    ];
    let random = Philox4x32::new(42);
    for (query, streams) in streams.into_iter().enumerate() {
        let keys = if query < 2 { 0..2 } else { 2..5 };
        for (h, stream) in streams.into_iter().enumerate() {
            for key in 0..5 {
                let word = (key as u64).wrapping_sub(keys.start as u64);
                let stays = keys.contains(&key) && random.u32_at(stream, word) >= 1 << 31;
                assert_eq!(out[[query, h, key]] > 0.0, stays, "{query} {h} {key}");
            }
        }
    }
}

/// Every gradient against finite differences of the textbook form.
#[test]
fn gradients_equal_finite_differences() {
    let random = Philox4x32::new(8);
    let draw = |stream: u64, shape: [usize; 3]| {
        let mut i = 0;
        Array3::from_shape_simple_fn(shape, || {
            i += 1;
            random.normal_f64(stream, i)
        })
    };
    let mask = Mask::Causal(CausalAlignment::BottomRight);
    let case = Packed {
        q: draw(0, [6, 4, 3]),
        k: draw(1, [9, 2, 3]),
        v: draw(2, [9, 2, 2]),
        dout: draw(3, [6, 4, 2]),
        cu_seqlens: vec![0, 2, 2, 6],
        cu_kv_seqlens: vec![0, 3, 4, 9],
        config: AttentionConfig::new(mask).with_softcap(2.0).with_tile(2, 3),
    };
    let choice = |ones| Choice {
        alibi: Some(AlibiOrigin::AbsoluteDistance),
        bias: Some((ones, false)),
        mask: Some(([true, true, true, false], MaskPolarity::TrueAttends)),
        dropout: Some(Dropout {
            rate: 0.3,
            key: 9,
            offset: 1,
        }),
    };
    let loss = |case: &Packed, mods: &ScoreMods<'_, f64>| {
        let (queries, keys) = (&case.cu_seqlens, &case.cu_kv_seqlens);
        let Packed { q, k, v, .. } = case;
        let run = reference::varlen::score_mods::forward;
        let (out, _) = run(q, k, v, queries, keys, mods, &case.config).unwrap();
        (out * &case.dout).sum()
    };
    let check = GradientCheck::new();
    for ones in [[true, false, true, false], [true, true, false, false]] {
        let choice = choice(ones);
        let arrays = arrays_of(&case, &choice);
        let mods = choice.mods(&arrays);
        let got = backward(&case, &mods);
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
        let with = |set: &dyn Fn(&mut Packed)| {
            let mut case = case.clone();
            set(&mut case);
            loss(&case, &mods)
        };
        let varlen::Gradients { dq, dk, dv } = got.inputs;
        assert_gradient(|x| with(&|c| c.q = x.clone()), &case.q, &dq, &check);
        assert_gradient(|x| with(&|c| c.k = x.clone()), &case.k, &dk, &check);
        assert_gradient(|x| with(&|c| c.v = x.clone()), &case.v, &dv, &check);
    }
}

/// Forward, backward and the reference refuse alike.
fn refused(mods: &ScoreMods<'_, f64>) -> AttentionError {
    let q = Array3::<f64>::ones((5, 4, 8));
    let k = Array3::ones((6, 2, 8));
    let lse = Array2::zeros((4, 5));
    let (queries, keys) = ([0, 2, 5], [0, 1, 6]);
    let config = AttentionConfig::new(Mask::Full);
    let error = score_mods::forward(&q, &k, &k, &queries, &keys, mods, &config).unwrap_err();
    let got = score_mods::backward(&q, &q, &k, &k, &q, &lse, &queries, &keys, mods, &config);
    assert_eq!(got.unwrap_err(), error);
    let run = reference::varlen::score_mods::forward;
    let got = run(&q, &k, &k, &queries, &keys, mods, &config);
    assert_eq!(got.unwrap_err(), error);
    let run = reference::varlen::score_mods::backward;
    let got = run(&q, &q, &k, &k, &queries, &keys, mods, &config);
    assert_eq!(got.unwrap_err(), error);
    error
}

#[test]
fn what_does_not_fit_is_refused() {
    for got in [0, 1, 2, 5] {
        let slopes = Array1::zeros(got);
        let error = refused(&ScoreMods::new().with_alibi(&slopes, AlibiOrigin::KeyIndex));
        assert_eq!(error, AttentionError::Slopes { n_heads: 4, got });
    }
    // As for a batch of one: not `[sequences, ..]`, and no longest sequence.
    for got in [[2, 4, 5, 6], [1, 2, 5, 6], [1, 1, 3, 6], [1, 1, 5, 5]] {
        let want = |name| AttentionError::Broadcast {
            name,
            expected: [1, 4, 5, 6],
            got,
        };
        let bias = Array4::zeros(got);
        assert_eq!(refused(&ScoreMods::new().with_bias(&bias)), want("bias"));
        let mask = Array4::from_elem(got, true);
        let mods = ScoreMods::new().with_mask(&mask, MaskPolarity::TrueAttends);
        assert_eq!(refused(&mods), want("mask"));
    }
    for rate in [1.0, -0.1, f64::INFINITY] {
        let dropout = Dropout {
            rate,
            key: 0,
            offset: 0,
        };
        let error = refused(&ScoreMods::new().with_dropout(dropout));
        assert_eq!(error, AttentionError::DropoutRate { got: rate });
    }
}

#[test]
fn lists_and_saved_arrays_are_checked_too() {
    let x = Array3::<f64>::ones((5, 2, 4));
    let (mods, config) = (ScoreMods::new(), AttentionConfig::new(Mask::Full));
    let (good, bad) = ([0, 2, 5], [0, 6]);
    let want = AttentionError::CuSeqlens {
        name: "cu_kv_seqlens",
        index: 1,
        got: Some(6),
        total: 5,
    };
    let got = score_mods::forward(&x, &x, &x, &good, &bad, &mods, &config);
    assert_eq!(got.unwrap_err(), want);
    let lse = Array2::zeros((2, 4));
    let got = score_mods::backward(&x, &x, &x, &x, &x, &lse, &good, &good, &mods, &config);
    let want = AttentionError::PackedLseShape {
        expected: [2, 5],
        got: [2, 4],
    };
    assert_eq!(got.unwrap_err(), want);
}

/// Large enough to wake threads: one, two or three of them give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let x = |scale: f64| {
        Array3::from_shape_fn((300, 4, 16), |(t, h, d)| {
            (scale * (t * 7 + h * 3 + d) as f64).sin()
        })
    };
    let case = Packed {
        q: x(0.3),
        k: x(0.7),
        v: x(1.1),
        dout: x(1.3),
        cu_seqlens: vec![0, 20, 20, 210, 300],
        cu_kv_seqlens: vec![0, 20, 20, 210, 300],
        config: AttentionConfig::new(Mask::Full),
    };
    let choice = Choice {
        alibi: Some(AlibiOrigin::SignedDistance),
        bias: Some(([true, false, true, true], false)),
        mask: Some(([true, true, true, false], MaskPolarity::TrueHides)),
        dropout: Some(Dropout {
            rate: 0.3,
            key: 9,
            offset: 1,
        }),
    };
    let arrays = arrays_of(&case, &choice);
    let mods = choice.mods(&arrays);
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        let work = || (forward(&case, &mods), backward(&case, &mods));
        pool.unwrap().install(work)
    };
    let want = run(1);
    assert!(want.0.0.iter().all(|x| x.is_finite()));
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
}
