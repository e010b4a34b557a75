//! Modified scores on the GPU equal the reference, and drop the weights that the CPU drops.

use llm_attention::gpu::llm_gpu::Gpu;
use llm_attention::gpu::score_mods::{self, GpuScoreMods};
use llm_attention::reference;
use llm_attention::{AlibiOrigin, AttentionConfig, Dropout, Mask, MaskPolarity, ScoreMods};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::{Tolerance, compare};
use ndarray::{Array1, Array4};
use proptest::prelude::*;

use super::{case_in_f32, close, close_gradients, few, gpu, in_f32, sizes, upload, wide, wide_lse};
use crate::cases::{Case, cases, masks};
use crate::score_mods::{Choice, choices};

/// Gradients of a bias are sums of up to some thousand terms, those of slopes are multiplied with distances up to 80.
pub(super) const SUMS: Tolerance = Tolerance::new(2e-3, 2e-4);
pub(super) const SLOPES: Tolerance = Tolerance::new(2e-2, 2e-4);

fn check(gpu: &Gpu, case: &Case, choice: &Choice) -> Result<(), TestCaseError> {
    let mut arrays = choice.arrays(case);
    arrays.slopes.mapv_inplace(|x| f64::from(x as f32));
    arrays.bias.mapv_inplace(|x| f64::from(x as f32));
    let slopes = upload(gpu, &arrays.slopes);
    let bias = upload(gpu, &arrays.bias);
    // Any number but 0 is true.
    let mask = gpu.upload(&arrays.mask.mapv(|x| if x { 7_u32 } else { 0 }));
    let mask = mask.unwrap();
    let mods = choice.mods(&arrays);
    let mut on_device = GpuScoreMods::new();
    if let Some((_, origin)) = mods.alibi {
        on_device = on_device.with_alibi(&slopes, origin);
    }
    if mods.bias.is_some() {
        on_device = on_device.with_bias(&bias);
    }
    if let Some((_, polarity)) = mods.mask {
        on_device = on_device.with_mask(&mask, polarity);
    }
    on_device.dropout = mods.dropout;

    let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|x| upload(gpu, x));
    let (mut r, config) = (gpu.recorder(), &case.config);
    let (out, lse) = score_mods::forward(&mut r, &q, &k, &v, &on_device, config).unwrap();
    let got =
        score_mods::backward(&mut r, &dout, &q, &k, &v, &out, &lse, &on_device, config).unwrap();
    r.submit().unwrap();

    let (q, k, v) = (&case.q, &case.k, &case.v);
    let (want, want_lse) = reference::score_mods::forward(q, k, v, &mods, config).unwrap();
    close(&wide(&out), &want)?;
    close(&wide_lse(&lse), &want_lse)?;
    let want = reference::score_mods::backward(&case.dout, q, k, v, &mods, config).unwrap();
    close_gradients(&got.inputs, &want.inputs)?;
    let fail = |mismatch: &dyn std::fmt::Display| TestCaseError::fail(mismatch.to_string());
    prop_assert_eq!(got.dbias.is_some(), want.dbias.is_some());
    if let (Some(got), Some(want)) = (got.dbias, want.dbias) {
        compare(&wide(&got), &want, SUMS).map_err(|m| fail(&m))?;
    }
    prop_assert_eq!(got.dslopes.is_some(), want.dslopes.is_some());
    if let (Some(got), Some(want)) = (got.dslopes, want.dslopes) {
        compare(&wide(&got), &want, SLOPES).map_err(|m| fail(&m))?;
    }
    Ok(())
}

/// Small sizes with every modification together; axes of length zero too.
#[test]
fn small_cases_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(96), |(case in cases(), choice in choices())| check(&gpu, &in_f32(case), &choice)?);
}

#[test]
fn cases_of_several_tiles_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(12), |(mut sizes in sizes(), mask in masks(), choice in choices(), key in any::<u64>())| {
        // Features were varied elsewhere.
        (sizes.head_dim, sizes.value_dim) = (sizes.head_dim.min(9), sizes.value_dim.min(9));
        let case = case_in_f32(sizes, AttentionConfig::new(mask), key);
        check(&gpu, &case, &choice)?;
    });
}

/// Each weight is dropped where the generator of `llm-numerics` says so, for streams and keys beyond 32 bits too.
#[test]
fn drops_the_weights_that_the_generator_says() {
    let Some(gpu) = gpu() else { return };
    let (n_heads, seq, kv_seq, rate) = (2, 3, 70, 0.4);
    // Equal scores, so each weight is 1/kv_seq; the values are the unit vectors, so the output is the weights.
    let q = gpu
        .upload(&Array4::<f32>::zeros((1, n_heads, seq, 1)))
        .unwrap();
    let k = gpu
        .upload(&Array4::<f32>::zeros((1, 1, kv_seq, 1)))
        .unwrap();
    let v = Array4::from_shape_fn((1, 1, kv_seq, kv_seq), |(.., j, d)| f32::from(j == d));
    let v = gpu.upload(&v).unwrap();
    for (key, offset) in [
        (1, 0),
        (u64::MAX - 5, u64::from(u32::MAX) - 2),
        (1 << 40, u64::MAX),
    ] {
        let dropout = Dropout { rate, key, offset };
        let mods = GpuScoreMods::new().with_dropout(dropout);
        let mut recorder = gpu.recorder();
        let config = AttentionConfig::new(Mask::Full);
        let (out, _) = score_mods::forward(&mut recorder, &q, &k, &v, &mods, &config).unwrap();
        recorder.submit().unwrap();
        let random = Philox4x32::new(key);
        let weight = 1.0 / (kv_seq as f64 * (1.0 - rate));
        let want = Array4::from_shape_fn((1, n_heads, seq, kv_seq), |(_, h, i, j)| {
            let word = random.u32_at(offset.wrapping_add((h * seq + i) as u64), j as u64);
            if f64::from(word) >= (rate * 4_294_967_296.0).round() {
                weight
            } else {
                0.0
            }
        });
        compare(&wide(&out), &want, Tolerance::new(0.0, 1e-6)).unwrap();
    }
}

/// The smallest rate above none, and the largest below 1, whose threshold is above every word.
#[test]
fn extreme_rates_drop_nothing_and_everything() {
    let Some(gpu) = gpu() else { return };
    let x = gpu.upload(&Array4::<f32>::ones((1, 1, 4, 4))).unwrap();
    for (rate, want) in [(0.0, 1.0), (1e-12, 1.0), (1.0 - 1e-12, 0.0)] {
        let dropout = Dropout {
            rate,
            key: 3,
            offset: 4,
        };
        let mods = GpuScoreMods::new().with_dropout(dropout);
        let mut recorder = gpu.recorder();
        let config = AttentionConfig::new(Mask::Full);
        let (out, _) = score_mods::forward(&mut recorder, &x, &x, &x, &mods, &config).unwrap();
        recorder.submit().unwrap();
        assert!(
            wide(&out).iter().all(|x| (x - want).abs() < 1e-6),
            "rate {rate}"
        );
    }
}

/// Tiles that a mask hides from all their queries are not computed, forward and backward: what is there may be infinite.
#[test]
fn tiles_that_a_mask_hides_are_skipped() {
    let Some(gpu) = gpu() else { return };
    let (seq, kv_seq) = (33, 96);
    let x = |n: usize, hidden: f32| {
        Array4::from_shape_fn((1, 1, n, 4), |(.., j, d)| match j {
            32..64 => hidden,
            _ => (j as f32 * 0.3 + d as f32).sin(),
        })
    };
    let mask = Array4::from_shape_fn((1, 1, 1, kv_seq), |(.., j)| {
        u32::from((32..64).contains(&j))
    });
    let slopes = gpu.upload(&ndarray::array![0.1_f32]).unwrap();
    let (mask, bias) = (
        gpu.upload(&mask).unwrap(),
        gpu.zeros::<f32>(&[1, 1, 1, kv_seq]).unwrap(),
    );
    let mods = GpuScoreMods::new()
        .with_mask(&mask, MaskPolarity::TrueHides)
        .with_alibi(&slopes, AlibiOrigin::SignedDistance)
        .with_bias(&bias);
    let config = AttentionConfig::new(Mask::Full);
    let run = |hidden: f32| {
        let q = gpu.upload(&x(seq, 0.5)).unwrap();
        let k = gpu.upload(&x(kv_seq, hidden)).unwrap();
        let mut r = gpu.recorder();
        let (out, lse) = score_mods::forward(&mut r, &q, &k, &k, &mods, &config).unwrap();
        let g = score_mods::backward(&mut r, &q, &q, &k, &k, &out, &lse, &mods, &config).unwrap();
        r.submit().unwrap();
        let inputs = g.inputs;
        [
            out,
            lse,
            inputs.dq,
            inputs.dk,
            inputs.dv,
            g.dbias.unwrap(),
            g.dslopes.unwrap(),
        ]
        .map(|x| x.download_blocking().unwrap())
    };
    let want = run(1.0);
    assert!(want.iter().flatten().all(|x| x.is_finite()));
    assert_eq!(run(f32::INFINITY), want);
}

/// A bias of -inf hides its key whatever the score is, also if it is the only thing there.
#[test]
fn an_infinite_bias_hides() {
    let Some(gpu) = gpu() else { return };
    let q = Array4::<f64>::ones((1, 1, 1, 1));
    let k = Array4::from_shape_fn((1, 1, 3, 1), |(.., j, _)| j as f64);
    let hidden = f64::NEG_INFINITY;
    for (bias, want) in [
        ([0.0, hidden, hidden], 0.0),
        ([hidden; 3], 0.0),
        ([hidden, 0.0, hidden], 1.0),
    ] {
        let bias = Array1::from_iter(bias)
            .into_shape_with_order((1, 1, 1, 3))
            .unwrap();
        let config = AttentionConfig::new(Mask::Full);
        let mods = ScoreMods::new().with_bias(&bias);
        let (out, want_lse) = reference::score_mods::forward(&q, &k, &k, &mods, &config).unwrap();
        assert_eq!(out[[0, 0, 0, 0]], want);
        let [q, k, bias] = [&q, &k, &bias].map(|x| upload(&gpu, x));
        let mods = GpuScoreMods::new().with_bias(&bias);
        let mut r = gpu.recorder();
        let (out, lse) = score_mods::forward(&mut r, &q, &k, &k, &mods, &config).unwrap();
        r.submit().unwrap();
        assert_eq!(wide(&out)[[0, 0, 0, 0]], want);
        assert_eq!(wide_lse(&lse)[[0, 0, 0]], want_lse[[0, 0, 0]]);
    }
}
