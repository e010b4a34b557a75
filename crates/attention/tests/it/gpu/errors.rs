//! What the recording functions refuse: nothing is recorded, nothing panics.

use llm_attention::gpu::llm_gpu::{Gpu, GpuError, GpuOptions, GpuTensor};
use llm_attention::gpu::score_mods::{self, GpuScoreMods};
use llm_attention::gpu::{MAX_LENGTH, flash, sinks, varlen};
use llm_attention::{AlibiOrigin, AttentionConfig, AttentionError, CausalAlignment, Dropout};
use llm_attention::{Mask, MaskPolarity};
use ndarray::{Array3, Array4};

use super::{gpu, ones};

const FULL: AttentionConfig = AttentionConfig::new(Mask::Full);

#[test]
fn tensors_must_fit_each_other() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let q = gpu.upload(&ones([1, 2, 3, 4])).unwrap();
    let flat = gpu.zeros::<f32>(&[2, 3, 4]).unwrap();
    let error = flash::forward(&mut recorder, &q, &flat, &q, &FULL).unwrap_err();
    let (name, expected, got) = ("k", 4, vec![2, 3, 4]);
    assert_eq!(
        error,
        AttentionError::Rank {
            name,
            expected,
            got
        }
    );
    let narrow = gpu.upload(&ones([1, 2, 3, 5])).unwrap();
    let error = flash::forward(&mut recorder, &q, &narrow, &q, &FULL).unwrap_err();
    let (name, expected, got) = ("k", [1, 2, 3, 4], [1, 2, 3, 5]);
    assert_eq!(
        error,
        AttentionError::Shape {
            name,
            expected,
            got
        }
    );
    let long = gpu.upload(&ones([1, 2, 7, 4])).unwrap();
    let error = flash::forward(&mut recorder, &q, &q, &long, &FULL).unwrap_err();
    let (name, expected, got) = ("v", [1, 2, 3, 4], [1, 2, 7, 4]);
    assert_eq!(
        error,
        AttentionError::Shape {
            name,
            expected,
            got
        }
    );
    let uneven = gpu.upload(&ones([1, 3, 3, 4])).unwrap();
    let error = flash::forward(&mut recorder, &uneven, &q, &q, &FULL).unwrap_err();
    let (n_heads, n_kv_heads) = (3, 2);
    assert_eq!(
        error,
        AttentionError::Heads {
            n_heads,
            n_kv_heads
        }
    );
    let lse = gpu.upload(&Array3::<f32>::zeros((1, 2, 3))).unwrap();
    for (name, [dout, out]) in [("dout", [&long, &q]), ("out", [&q, &long])] {
        let error = flash::backward(&mut recorder, dout, &q, &q, &q, out, &lse, &FULL).unwrap_err();
        let (expected, got) = ([1, 2, 3, 4], [1, 2, 7, 4]);
        assert_eq!(
            error,
            AttentionError::Shape {
                name,
                expected,
                got
            }
        );
    }
    let short = gpu.upload(&Array3::<f32>::zeros((1, 2, 2))).unwrap();
    let error = flash::backward(&mut recorder, &q, &q, &q, &q, &q, &short, &FULL).unwrap_err();
    let (expected, got) = ([1, 2, 3], [1, 2, 2]);
    assert_eq!(error, AttentionError::LseShape { expected, got });
}

#[test]
fn settings_must_be_numbers() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let q = gpu.upload(&ones([1, 1, 2, 4])).unwrap();
    let mut refused =
        |config: AttentionConfig| flash::forward(&mut recorder, &q, &q, &q, &config).unwrap_err();
    // The shader has it in f32.
    for got in [f64::INFINITY, 1e39] {
        assert_eq!(refused(FULL.with_scale(got)), AttentionError::Scale { got });
    }
    assert!(matches!(
        refused(FULL.with_scale(f64::NAN)),
        AttentionError::Scale { .. }
    ));
    for got in [0.0, -1.0, 1e39, 1e-60] {
        assert_eq!(
            refused(FULL.with_softcap(got)),
            AttentionError::Softcap { got }
        );
    }
    let (query_tile, key_tile) = (0, 1);
    let want = AttentionError::Tile {
        query_tile,
        key_tile,
    };
    assert_eq!(refused(FULL.with_tile(0, 1)), want);
    let alignment = CausalAlignment::TopLeft;
    let mask = Mask::ChunkedCausal {
        chunk: 0,
        alignment,
    };
    assert_eq!(refused(AttentionConfig::new(mask)), AttentionError::Chunk);
}

/// Axes beside a zero may have any length: they are refused, or nothing is looped over for them.
#[test]
fn long_axes_of_empty_tensors_cost_nothing() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let max = MAX_LENGTH;
    for (name, q, k) in [
        ("seq", [0, 1, max + 1, 1], [0, 1, 1, 1]),
        ("kv_seq", [0, 1, 1, 1], [0, 1, usize::MAX, 1]),
    ] {
        let [q, k] = [q, k].map(|shape| gpu.zeros::<f32>(&shape).unwrap());
        let got = if name == "seq" { max + 1 } else { usize::MAX };
        let error = flash::forward(&mut recorder, &q, &k, &k, &FULL).unwrap_err();
        assert_eq!(error, AttentionError::TooLong { name, max, got });
    }
    let many = 1 << 40;
    for (q, k) in [
        ([0, 2, 3, 4], [0, 1, 5, 4]),
        ([many, 2, 3, 0], [many, 1, 0, 0]),
        ([1, many, 0, 4], [1, many, 0, 4]),
        ([1, many, 0, 1], [1, 1, 5, 1]), // heads without queries, keys without a query
        ([1, 0, 3, 4], [1, 0, 5, 4]),
        ([0, 1, 1, many], [0, 1, 1, many]),
    ] {
        let [q, k] = [q, k].map(|shape| gpu.zeros::<f32>(&shape).unwrap());
        let mut recorder = gpu.recorder();
        let Ok((out, lse)) = flash::forward(&mut recorder, &q, &k, &k, &FULL) else {
            continue; // the log-sum-exp does not fit
        };
        let g = flash::backward(&mut recorder, &out, &q, &k, &k, &out, &lse, &FULL).unwrap();
        recorder.submit().unwrap();
        assert_eq!(g.dk.shape(), k.shape());
        assert!(g.dk.download_blocking().unwrap().iter().all(|x| *x == 0.0));
    }
}

#[test]
fn modifications_must_fit_the_scores() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let q = gpu.upload(&ones([2, 4, 3, 4])).unwrap();
    let k = gpu.upload(&ones([2, 2, 5, 4])).unwrap();
    let mut refused = |mods: GpuScoreMods<'_>| {
        score_mods::forward(&mut recorder, &q, &k, &k, &mods, &FULL).unwrap_err()
    };
    let slopes = gpu.zeros::<f32>(&[2]).unwrap();
    let (n_heads, got) = (4, 2);
    let error = refused(GpuScoreMods::new().with_alibi(&slopes, AlibiOrigin::KeyIndex));
    assert_eq!(error, AttentionError::Slopes { n_heads, got });
    let (expected, got) = ([2, 4, 3, 5], [2, 1, 3, 4]);
    let name = "bias";
    let bias = gpu.zeros::<f32>(&got).unwrap();
    let error = refused(GpuScoreMods::new().with_bias(&bias));
    let want = AttentionError::Broadcast {
        name,
        expected,
        got,
    };
    assert_eq!(error, want);
    let name = "mask";
    let mask = gpu.zeros::<u32>(&got).unwrap();
    let error = refused(GpuScoreMods::new().with_mask(&mask, MaskPolarity::TrueHides));
    let want = AttentionError::Broadcast {
        name,
        expected,
        got,
    };
    assert_eq!(error, want);
    let flat = gpu.zeros::<u32>(&[3, 5]).unwrap();
    let error = refused(GpuScoreMods::new().with_mask(&flat, MaskPolarity::TrueHides));
    let (expected, got) = (4, vec![3, 5]);
    assert_eq!(
        error,
        AttentionError::Rank {
            name,
            expected,
            got
        }
    );
    let (key, offset) = (1, 2);
    for rate in [-0.1, 1.0, f64::INFINITY] {
        let error = refused(GpuScoreMods::new().with_dropout(Dropout { rate, key, offset }));
        assert_eq!(error, AttentionError::DropoutRate { got: rate });
    }
}

#[test]
fn packed_sequences_must_fit_their_lists() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let x = gpu.zeros::<f32>(&[5, 2, 4]).unwrap();
    let mut refused = |q: &GpuTensor<f32>, k: &GpuTensor<f32>, lists: [&[usize]; 2]| {
        varlen::forward(&mut r, q, k, k, lists[0], lists[1], &FULL).unwrap_err()
    };
    let (name, index, got, total) = ("cu_kv_seqlens", 1, Some(6), 5);
    let want = AttentionError::CuSeqlens {
        name,
        index,
        got,
        total,
    };
    assert_eq!(refused(&x, &x, [&[0, 5], &[0, 6, 5]]), want);
    let (name, index, got) = ("cu_seqlens", 0, None);
    let want = AttentionError::CuSeqlens {
        name,
        index,
        got,
        total,
    };
    assert_eq!(refused(&x, &x, [&[], &[0, 5]]), want);
    let (queries, keys) = (1, 2);
    let want = AttentionError::CuSeqlensLength { queries, keys };
    assert_eq!(refused(&x, &x, [&[0, 5], &[0, 1, 5]]), want);
    let wide = gpu.zeros::<f32>(&[5, 2, 3]).unwrap();
    let (name, expected, got) = ("k", [5, 2, 4], [5, 2, 3]);
    let want = AttentionError::PackedShape {
        name,
        expected,
        got,
    };
    assert_eq!(refused(&x, &wide, [&[0, 5], &[0, 5]]), want);
    let lse = gpu.zeros::<f32>(&[5, 2]).unwrap();
    let list = [0, 5];
    let error = varlen::backward(&mut r, &x, &x, &x, &x, &x, &lse, &list, &list, &FULL);
    let (expected, got) = ([2, 5], [5, 2]);
    assert_eq!(
        error.unwrap_err(),
        AttentionError::PackedLseShape { expected, got }
    );
    // Without heads and features a sequence may be as long as one likes, but not longer than a shader counts.
    let long = gpu.zeros::<f32>(&[MAX_LENGTH + 1, 1, 0]).unwrap();
    let list = [0, MAX_LENGTH + 1];
    let (name, max, got) = ("seq", MAX_LENGTH, MAX_LENGTH + 1);
    let error = varlen::forward(&mut r, &long, &long, &long, &list, &list, &FULL).unwrap_err();
    assert_eq!(error, AttentionError::TooLong { name, max, got });
}

#[test]
fn sinks_must_fit_the_heads() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let out = gpu.upload(&ones([1, 2, 3, 4])).unwrap();
    let lse = gpu.zeros::<f32>(&[1, 2, 3]).unwrap();
    let few = gpu.zeros::<f32>(&[1]).unwrap();
    let want = AttentionError::Sinks { n_heads: 2, got: 1 };
    let error = sinks::apply(&mut recorder, &out, &lse, &few).unwrap_err();
    assert_eq!(error, want);
    let error = sinks::backward(&mut recorder, &out, &out, &lse, &few).unwrap_err();
    assert_eq!(error, want);
    let two = gpu.zeros::<f32>(&[2]).unwrap();
    let short = gpu.zeros::<f32>(&[1, 2, 2]).unwrap();
    let error = sinks::apply(&mut recorder, &out, &short, &two).unwrap_err();
    let (expected, got) = ([1, 2, 3], [1, 2, 2]);
    assert_eq!(error, AttentionError::LseShape { expected, got });
    let dout = gpu.upload(&ones([1, 2, 3, 5])).unwrap();
    let error = sinks::backward(&mut recorder, &dout, &out, &lse, &two).unwrap_err();
    let (name, expected, got) = ("dout", [1, 2, 3, 4], [1, 2, 3, 5]);
    assert_eq!(
        error,
        AttentionError::Shape {
            name,
            expected,
            got
        }
    );
}

#[test]
fn sizes_beyond_the_device_are_errors() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    // No features, so the tensors are small; the log-sum-exp is not.
    let q = gpu.zeros::<f32>(&[1 << 12, 1 << 12, 1 << 12, 0]).unwrap();
    let error = flash::forward(&mut recorder, &q, &q, &q, &FULL).unwrap_err();
    assert!(matches!(error, AttentionError::Gpu(_)), "{error}");
}

#[test]
fn tensors_of_another_device_are_refused() {
    let Some(gpu) = gpu() else { return };
    let other = Gpu::new_blocking(&GpuOptions::default()).unwrap();
    let mut recorder = gpu.recorder();
    let here = gpu.upload(&ones([1, 1, 2, 4])).unwrap();
    let there = other.upload(&Array4::<f32>::ones((1, 1, 2, 4))).unwrap();
    let error = flash::forward(&mut recorder, &here, &there, &here, &FULL).unwrap_err();
    assert!(
        matches!(error, AttentionError::Gpu(GpuError::OtherDevice { .. })),
        "{error}"
    );
}
