//! Attention on the GPU equals the reference, forward and backward, under every mask.

use llm_attention::gpu::{LOWEST, Variant, flash};
use llm_attention::{AttentionConfig, CausalAlignment, Mask, reference};
use ndarray::{Array3, Array4, s};
use proptest::prelude::*;

use super::{
    case_in_f32, close, close_gradients, few, gpu, in_f32, length, sizes, upload, wide, wide_lse,
};
use crate::cases::{Case, Sizes, cases, masks};
use llm_attention::gpu::llm_gpu::Gpu;

/// Forward and backward on the device against the textbook.
fn check(gpu: &Gpu, case: &Case) -> Result<(), TestCaseError> {
    let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|x| upload(gpu, x));
    let mut recorder = gpu.recorder();
    let config = &case.config;
    let by_itself = flash::forward(&mut recorder, &q, &k, &v, config).unwrap();
    let base = Variant::Base;
    let (out, lse) = flash::forward_with(&mut recorder, &q, &k, &v, config, base).unwrap();
    let grads = flash::backward(&mut recorder, &dout, &q, &k, &v, &out, &lse, config).unwrap();
    recorder.submit().unwrap();
    let (q, k, v) = (&case.q, &case.k, &case.v);
    let (want, want_lse) = reference::attention::forward(q, k, v, config).unwrap();
    for (out, lse) in [(out, lse), by_itself] {
        close(&wide(&out), &want)?;
        close(&wide_lse(&lse), &want_lse)?;
    }
    let want = reference::attention::backward(&case.dout, q, k, v, config).unwrap();
    close_gradients(&grads, &want)
}

/// Small sizes with every mask, scale and softcap; axes of length zero too.
#[test]
fn small_cases_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(96), |(case in cases())| check(&gpu, &in_f32(case))?);
}

/// Sizes around tiles, chunks of features, and columns of a workgroup.
#[test]
fn cases_of_several_tiles_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(8), |(
        sizes in sizes(),
        mask in masks(),
        softcap in prop::option::weighted(0.3, 0.5_f64..50.0),
        key in any::<u64>(),
    )| {
        let mut config = AttentionConfig::new(mask);
        config.softcap = softcap;
        check(&gpu, &case_in_f32(sizes, config, key))?;
    });
}

/// Every kind of mask across the edges of tiles, in both alignments.
#[test]
fn each_mask_is_right_across_tiles() {
    let Some(gpu) = gpu() else { return };
    for alignment in [CausalAlignment::TopLeft, CausalAlignment::BottomRight] {
        let window = |left, right| Mask::Window {
            left,
            right,
            alignment,
        };
        let masks = [
            Mask::Full,
            Mask::Causal(alignment),
            window(Some(3), Some(0)),
            window(Some(40), Some(2)),
            window(None, Some(33)),
            window(Some(0), None),
            Mask::ChunkedCausal {
                chunk: 31,
                alignment,
            },
            Mask::PrefixLm {
                prefix: 34,
                alignment,
            },
        ];
        for (seq, kv_seq) in [(65, 65), (33, 97), (97, 33)] {
            for mask in masks {
                let sizes = Sizes {
                    batch: 1,
                    n_heads: 2,
                    n_kv_heads: 1,
                    seq,
                    kv_seq,
                    head_dim: 5,
                    value_dim: 3,
                };
                let case = case_in_f32(sizes, AttentionConfig::new(mask), 7);
                if let Err(error) = check(&gpu, &case) {
                    panic!("{mask:?}, {seq} queries, {kv_seq} keys: {error}");
                }
            }
        }
    }
}

/// Keys that a mask hides in whole tiles are not even read: garbage there costs nothing and changes nothing.
#[test]
fn hidden_tiles_are_skipped() {
    let Some(gpu) = gpu() else { return };
    let sizes = Sizes {
        batch: 1,
        n_heads: 1,
        n_kv_heads: 1,
        seq: 32,
        kv_seq: 96,
        head_dim: 4,
        value_dim: 4,
    };
    // Queries stand at 64..96 and see 32 keys back: the first tile is seen by none.
    let mask = Mask::Window {
        left: Some(31),
        right: Some(0),
        alignment: CausalAlignment::BottomRight,
    };
    let mut case = case_in_f32(sizes, AttentionConfig::new(mask), 3);
    let run = |case: &Case| {
        let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|x| upload(&gpu, x));
        let mut recorder = gpu.recorder();
        let (out, lse) = flash::forward(&mut recorder, &q, &k, &v, &case.config).unwrap();
        let g = flash::backward(&mut recorder, &dout, &q, &k, &v, &out, &lse, &case.config);
        recorder.submit().unwrap();
        let g = g.unwrap();
        [out, lse, g.dq, g.dk, g.dv].map(|x| x.download_blocking().unwrap())
    };
    let want = run(&case);
    case.k.slice_mut(s![.., .., ..32, ..]).fill(f64::INFINITY);
    case.v.slice_mut(s![.., .., ..32, ..]).fill(f64::INFINITY);
    let got = run(&case);
    assert_eq!(got, want);
    let dk = &got[3];
    assert!(dk.slice(s![0, 0, ..32, ..]).iter().all(|x| *x == 0.0));
}

/// A value that a query does not see may be so large that its product with the query's gradient overflows: no gradient changes.
#[test]
fn hidden_products_that_overflow_change_no_gradient() {
    let Some(gpu) = gpu() else { return };
    let sizes = Sizes {
        batch: 1,
        n_heads: 2,
        n_kv_heads: 1,
        seq: 3,
        kv_seq: 3,
        head_dim: 4,
        value_dim: 4,
    };
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::TopLeft));
    let mut case = case_in_f32(sizes, config, 11);
    // Only the last query sees the last value, and nothing depends on its output.
    case.v.slice_mut(s![.., .., 2, ..]).fill(1e38);
    case.dout.fill(9.0);
    case.dout.slice_mut(s![.., .., 2, ..]).fill(0.0);
    let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|x| upload(&gpu, x));
    let mut recorder = gpu.recorder();
    let (out, lse) = flash::forward(&mut recorder, &q, &k, &v, &config).unwrap();
    let g = flash::backward(&mut recorder, &dout, &q, &k, &v, &out, &lse, &config).unwrap();
    recorder.submit().unwrap();
    let (q, k, v) = (&case.q, &case.k, &case.v);
    let want = reference::attention::backward(&case.dout, q, k, v, &config).unwrap();
    close_gradients(&g, &want).unwrap();
}

/// The device's finite lowest value and the CPU's infinity mean the same where a log-sum-exp is read.
#[test]
fn blind_rows_are_zero_whatever_stands_for_infinity() {
    let Some(gpu) = gpu() else { return };
    let q = Array4::<f64>::ones((1, 1, 3, 4));
    let k = Array4::<f64>::ones((1, 1, 2, 4));
    // Query 0 stands before the first key.
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let [q, k, dout] = [&q, &k, &q].map(|x| upload(&gpu, x));
    let mut recorder = gpu.recorder();
    let (out, lse) = flash::forward(&mut recorder, &q, &k, &k, &config).unwrap();
    recorder.submit().unwrap();
    let stored = lse.download_blocking().unwrap();
    assert_eq!(stored[[0, 0, 0]], LOWEST);
    assert!(
        out.download_blocking()
            .unwrap()
            .slice(s![0, 0, 0, ..])
            .iter()
            .all(|x| *x == 0.0)
    );
    let mut infinite = Array3::<f32>::from_shape_fn((1, 1, 3), |(b, h, i)| stored[[b, h, i]]);
    infinite[[0, 0, 0]] = f32::NEG_INFINITY;
    let infinite = gpu.upload(&infinite).unwrap();
    let mut recorder = gpu.recorder();
    let [one, other] = [&lse, &infinite].map(|lse| {
        let g = flash::backward(&mut recorder, &dout, &q, &k, &k, &out, lse, &config).unwrap();
        [g.dq, g.dk, g.dv]
    });
    recorder.submit().unwrap();
    for (one, other) in one.iter().zip(&other) {
        let got = one.download_blocking().unwrap();
        assert_eq!(got, other.download_blocking().unwrap());
        assert!(got.iter().all(|x| x.is_finite()));
    }
    let dq = one[0].download_blocking().unwrap();
    assert!(dq.slice(s![0, 0, 0, ..]).iter().all(|x| *x == 0.0));
}

/// Scores far apart and far from zero neither overflow nor lose the weights.
#[test]
fn large_scores_do_not_overflow() {
    let Some(gpu) = gpu() else { return };
    let q = Array4::from_elem((1, 1, 1, 1), 1.0);
    let k = Array4::from_shape_fn((1, 1, 70, 1), |(.., j, _)| if j == 69 { 3e4 } else { -3e4 });
    let v = Array4::from_shape_fn((1, 1, 70, 1), |(.., j, _)| j as f64);
    for (scale, want) in [(1.0, 69.0), (1e3, 69.0), (-1.0, 34.0)] {
        let config = AttentionConfig::new(Mask::Full).with_scale(scale);
        let [q, k, v] = [&q, &k, &v].map(|x| upload(&gpu, x));
        let mut recorder = gpu.recorder();
        let (out, lse) = flash::forward(&mut recorder, &q, &k, &v, &config).unwrap();
        recorder.submit().unwrap();
        // Of 69 equal keys the mean is taken.
        assert!(
            (wide(&out)[[0, 0, 0, 0]] - want).abs() < 1e-4,
            "scale {scale}"
        );
        assert!(wide_lse(&lse)[[0, 0, 0]].is_finite());
    }
}

proptest! {
    #![proptest_config(few(4))]

    /// The same input gives the same bits.
    #[test]
    fn the_same_call_gives_the_same_bits(seq in length(), key in any::<u64>()) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let sizes = Sizes { batch: 2, n_heads: 4, n_kv_heads: 2, seq, kv_seq: 70, head_dim: 9, value_dim: 5 };
        let case = case_in_f32(sizes, AttentionConfig::new(Mask::Full), key);
        let run = || {
            let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|x| upload(&gpu, x));
            let mut recorder = gpu.recorder();
            let (out, lse) = flash::forward(&mut recorder, &q, &k, &v, &case.config).unwrap();
            let g = flash::backward(&mut recorder, &dout, &q, &k, &v, &out, &lse, &case.config).unwrap();
            recorder.submit().unwrap();
            [out, lse, g.dq, g.dk, g.dv].map(|x| x.download_blocking().unwrap())
        };
        prop_assert_eq!(run(), run());
    }
}
