//! A single query on the GPU equals the reference, in one piece of the keys and in many.

use llm_attention::gpu::llm_gpu::{self, Gpu, GpuError, GpuOptions};
use llm_attention::gpu::{Variant, flash};
use llm_attention::{AttentionConfig, AttentionError, CausalAlignment, Mask, reference};
use ndarray::Array4;
use proptest::prelude::*;

use super::{case_in_f32, close, features, few, gpu, upload, variants, wide, wide_lse};
use crate::cases::{Case, Sizes, masks};

fn check(gpu: &Gpu, case: &Case) -> Result<(), TestCaseError> {
    let Case {
        q, k, v, config, ..
    } = case;
    let (want, want_lse) = reference::attention::forward(q, k, v, config).unwrap();
    let (head_dim, value_dim) = (k.dim().3, v.dim().3);
    let [q, k, v] = [q, k, v].map(|x| upload(gpu, x));
    for variant in variants(gpu, head_dim, value_dim) {
        let mut r = gpu.recorder();
        let (out, lse) = flash::forward_with(&mut r, &q, &k, &v, config, variant).unwrap();
        r.submit().unwrap();
        let explain = |error| TestCaseError::fail(format!("{variant:?}: {error}"));
        close(&wide(&out), &want).map_err(explain)?;
        close(&wide_lse(&lse), &want_lse).map_err(explain)?;
    }
    Ok(())
}

fn sizes(kv_seq: impl Strategy<Value = usize>) -> impl Strategy<Value = Sizes> {
    // More heads than the 8 rows of a workgroup, and fewer.
    let heads = (1_usize..3, prop_oneof![1_usize..5, 7_usize..12]);
    (1_usize..3, heads, kv_seq, features()).prop_map(
        |(batch, (n_kv_heads, group), kv_seq, (head_dim, value_dim))| Sizes {
            batch,
            n_heads: n_kv_heads * group,
            n_kv_heads,
            seq: 1,
            kv_seq,
            head_dim,
            value_dim,
        },
    )
}

#[test]
fn one_piece_equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    let lengths = prop_oneof![Just(1), Just(31), Just(32), Just(33), 1_usize..256];
    proptest!(few(32), |(
        sizes in sizes(lengths),
        mask in masks(),
        softcap in prop::option::weighted(0.3, 0.5_f64..50.0),
        key in any::<u64>(),
    )| {
        let mut config = AttentionConfig::new(mask);
        config.softcap = softcap;
        check(&gpu, &case_in_f32(sizes, config, key))?;
    });
}

/// 257 keys and more are in several pieces; a window makes some of them see nothing.
#[test]
fn many_pieces_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    let lengths = prop_oneof![Just(256), Just(257), Just(512), 257_usize..1200];
    proptest!(few(6), |(mut sizes in sizes(lengths), key in any::<u64>(), left in 0_usize..600)| {
        (sizes.head_dim, sizes.value_dim) = (sizes.head_dim.min(40), sizes.value_dim.min(40));
        let alignment = CausalAlignment::BottomRight;
        let window = Mask::Window { left: Some(left), right: Some(0), alignment };
        for mask in [Mask::Full, window, Mask::Causal(CausalAlignment::TopLeft)] {
            check(&gpu, &case_in_f32(sizes, AttentionConfig::new(mask), key))?;
        }
    });
}

/// No values, no features, no keys: the log-sum-exp is there all the same.
#[test]
fn empty_axes_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (kv_seq, head_dim, value_dim) in
        [(300, 4, 0), (300, 0, 3), (300, 0, 0), (0, 4, 3), (5, 0, 0)]
    {
        let sizes = Sizes {
            batch: 2,
            n_heads: 3,
            n_kv_heads: 1,
            seq: 1,
            kv_seq,
            head_dim,
            value_dim,
        };
        check(
            &gpu,
            &case_in_f32(sizes, AttentionConfig::new(Mask::Full), 1),
        )
        .unwrap();
    }
}

/// Values that no piece sees are not multiplied with zero: garbage behind a window stays out.
#[test]
fn hidden_keys_are_not_read() {
    let Some(gpu) = gpu() else { return };
    let q = gpu.upload(&Array4::<f32>::ones((1, 1, 1, 4))).unwrap();
    let x = Array4::from_shape_fn(
        (1, 1, 600, 4),
        |(.., j, _)| if j < 500 { f32::INFINITY } else { 1.0 },
    );
    let x = gpu.upload(&x).unwrap();
    let alignment = CausalAlignment::BottomRight;
    let mask = Mask::Window {
        left: Some(99),
        right: Some(0),
        alignment,
    };
    for variant in variants(&gpu, 4, 4) {
        let mut r = gpu.recorder();
        let config = AttentionConfig::new(mask);
        let (out, _) = flash::forward_with(&mut r, &q, &x, &x, &config, variant).unwrap();
        r.submit().unwrap();
        let out = out.download_blocking().unwrap();
        assert!(out.iter().all(|x| (x - 1.0).abs() < 1e-6), "{variant:?}");
    }
}

/// The same input gives the same bits.
#[test]
fn the_same_step_gives_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let sizes = Sizes {
        batch: 2,
        n_heads: 6,
        n_kv_heads: 2,
        seq: 1,
        kv_seq: 700,
        head_dim: 36,
        value_dim: 24,
    };
    let case = case_in_f32(sizes, AttentionConfig::new(Mask::Full), 5);
    let [q, k, v] = [&case.q, &case.k, &case.v].map(|x| upload(&gpu, x));
    for variant in variants(&gpu, 36, 24) {
        let run = || {
            let mut r = gpu.recorder();
            let outputs = flash::forward_with(&mut r, &q, &k, &v, &case.config, variant).unwrap();
            r.submit().unwrap();
            <[_; 2]>::from(outputs).map(|x| x.download_blocking().unwrap())
        };
        assert_eq!(run(), run(), "{variant:?}");
    }
}

/// Vectors of four features are what a variant asks for; with others it is refused, not replaced.
#[test]
fn subgroups_that_cannot_run_are_refused() {
    let Some(gpu) = gpu() else { return };
    let config = AttentionConfig::new(Mask::Full);
    for (head_dim, value_dim) in [(6, 4), (4, 6), (0, 4), (4, 0)] {
        let q = gpu.zeros::<f32>(&[1, 1, 1, head_dim]).unwrap();
        let k = gpu.zeros::<f32>(&[1, 1, 5, head_dim]).unwrap();
        let v = gpu.zeros::<f32>(&[1, 1, 5, value_dim]).unwrap();
        let mut r = gpu.recorder();
        let error = flash::forward_with(&mut r, &q, &k, &v, &config, Variant::Subgroups);
        let want = AttentionError::VectorFeatures {
            head_dim,
            value_dim,
        };
        assert_eq!(error.unwrap_err(), want);
    }
    let lesser = GpuOptions {
        mask: llm_gpu::Mask {
            subgroups: true,
            ..Default::default()
        },
        ..Default::default()
    };
    let lesser = Gpu::new_blocking(&lesser).unwrap();
    let x = lesser.upload(&Array4::<f32>::ones((1, 1, 1, 4))).unwrap();
    let mut r = lesser.recorder();
    let error = flash::forward_with(&mut r, &x, &x, &x, &config, Variant::Subgroups).unwrap_err();
    let (feature, what) = ("subgroups of 4 to 64 lanes", "Variant::Subgroups");
    let want = AttentionError::Gpu(GpuError::UnsupportedFeature { feature, what });
    assert_eq!(error, want);
    flash::forward_with(&mut r, &x, &x, &x, &config, Variant::Auto).unwrap();
}
