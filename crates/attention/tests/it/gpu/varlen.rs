//! Packed sequences on the GPU equal the reference, forward and backward, with modified scores too.

use llm_attention::gpu::llm_gpu::{Gpu, Recorder};
use llm_attention::gpu::score_mods::GpuScoreMods;
use llm_attention::gpu::{Variant, flash, varlen};
use llm_attention::{
    AlibiOrigin, AttentionConfig, AttentionError, CausalAlignment, Mask, MaskPolarity, reference,
};
use llm_numerics::testing::compare;
use ndarray::{Array3, Array4, Axis};
use proptest::prelude::*;

use super::score_mods::{SLOPES, SUMS};
use super::{close, few, gpu, upload, wide, wide_lse};
use crate::score_mods::{Choice, choices};
use crate::varlen::{Packed, packed_up_to};

fn check(gpu: &Gpu, mut case: Packed) -> Result<(), TestCaseError> {
    for x in [&mut case.q, &mut case.k, &mut case.v, &mut case.dout] {
        x.mapv_inplace(|x| f64::from(x as f32));
    }
    let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|x| upload(gpu, x));
    let (starts, kv_starts, config) = (&case.cu_seqlens, &case.cu_kv_seqlens, &case.config);
    let mut r = gpu.recorder();
    let (out, lse) = varlen::forward(&mut r, &q, &k, &v, starts, kv_starts, config).unwrap();
    let got = varlen::backward(
        &mut r, &dout, &q, &k, &v, &out, &lse, starts, kv_starts, config,
    )
    .unwrap();
    r.submit().unwrap();
    let (q, k, v) = (&case.q, &case.k, &case.v);
    let (want, want_lse) = reference::varlen::forward(q, k, v, starts, kv_starts, config).unwrap();
    close(&wide(&out), &want)?;
    close(&wide_lse(&lse), &want_lse)?;
    let want = reference::varlen::backward(&case.dout, q, k, v, starts, kv_starts, config).unwrap();
    close(&wide(&got.dq), &want.dq)?;
    close(&wide(&got.dk), &want.dk)?;
    close(&wide(&got.dv), &want.dv)
}

#[test]
fn short_sequences_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(64), |(case in packed_up_to(8))| check(&gpu, case)?);
}

#[test]
fn sequences_of_several_tiles_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(12), |(case in packed_up_to(70))| check(&gpu, case)?);
}

/// One sequence gives the bits that it gives without packing.
#[test]
fn one_sequence_is_as_unpacked() {
    let Some(gpu) = gpu() else { return };
    let wave = |i: usize| (i as f32 * 0.7).sin();
    let x = Array3::from_shape_fn((40, 2, 5), |(t, h, d)| wave(t * 11 + h * 3 + d));
    let unpacked: Array4<f32> = x
        .view()
        .permuted_axes([1, 0, 2])
        .to_owned()
        .insert_axis(Axis(0));
    let [x, y] = [gpu.upload(&x).unwrap(), gpu.upload(&unpacked).unwrap()];
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let mut r = gpu.recorder();
    let (got, _) = varlen::forward(&mut r, &x, &x, &x, &[0, 40], &[0, 40], &config).unwrap();
    let (want, _) = flash::forward(&mut r, &y, &y, &y, &config).unwrap();
    r.submit().unwrap();
    let want = want.download_blocking().unwrap().remove_axis(Axis(0));
    assert_eq!(
        got.download_blocking().unwrap(),
        want.permuted_axes(vec![1, 0, 2])
    );
}

fn check_modified(gpu: &Gpu, mut case: Packed, choice: &Choice) -> Result<(), TestCaseError> {
    for x in [&mut case.q, &mut case.k, &mut case.v, &mut case.dout] {
        x.mapv_inplace(|x| f64::from(x as f32));
    }
    let mut arrays = choice.arrays_of([1, case.q.dim().1, case.q.dim().0, case.k.dim().0]);
    arrays.slopes.mapv_inplace(|x| f64::from(x as f32));
    arrays.bias.mapv_inplace(|x| f64::from(x as f32));
    let (slopes, bias) = (upload(gpu, &arrays.slopes), upload(gpu, &arrays.bias));
    let mask = gpu.upload(&arrays.mask.mapv(u32::from)).unwrap();
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
    let (starts, kv_starts, config) = (&case.cu_seqlens, &case.cu_kv_seqlens, &case.config);
    let mut r = gpu.recorder();
    let run = varlen::score_mods::forward_with;
    let run = |r: &mut Recorder, variant| {
        let run = run(
            r, &q, &k, &v, starts, kv_starts, &on_device, config, variant,
        );
        run.unwrap()
    };
    let base = run(&mut r, Variant::Base);
    let (out, lse) = run(&mut r, Variant::Auto);
    let got = varlen::score_mods::backward(
        &mut r, &dout, &q, &k, &v, &out, &lse, starts, kv_starts, &on_device, config,
    );
    r.submit().unwrap();
    let (q, k, v) = (&case.q, &case.k, &case.v);
    let want = reference::varlen::score_mods::forward;
    let (want, want_lse) = want(q, k, v, starts, kv_starts, &mods, config).unwrap();
    for (out, lse) in &[base, (out, lse)] {
        close(&wide(out), &want)?;
        close(&wide_lse(lse), &want_lse)?;
    }
    let got = got.unwrap();
    let want = reference::varlen::score_mods::backward;
    let want = want(&case.dout, q, k, v, starts, kv_starts, &mods, config).unwrap();
    close(&wide(&got.inputs.dq), &want.inputs.dq)?;
    close(&wide(&got.inputs.dk), &want.inputs.dk)?;
    close(&wide(&got.inputs.dv), &want.inputs.dv)?;
    prop_assert_eq!(got.dbias.is_some(), want.dbias.is_some());
    if let (Some(got), Some(want)) = (got.dbias, want.dbias) {
        let same = compare(&wide(&got), &want, SUMS);
        same.map_err(|m| TestCaseError::fail(m.to_string()))?;
    }
    prop_assert_eq!(got.dslopes.is_some(), want.dslopes.is_some());
    if let (Some(got), Some(want)) = (got.dslopes, want.dslopes) {
        let same = compare(&wide(&got), &want, SLOPES);
        same.map_err(|m| TestCaseError::fail(m.to_string()))?;
    }
    Ok(())
}

#[test]
fn modified_scores_of_short_sequences_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(96), |(case in packed_up_to(8), choice in choices())| {
        check_modified(&gpu, case, &choice)?;
    });
}

#[test]
fn modified_scores_of_several_tiles_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(12), |(case in packed_up_to(70), choice in choices())| {
        check_modified(&gpu, case, &choice)?;
    });
}

#[test]
fn modifications_that_do_not_fit_are_refused() {
    let Some(gpu) = gpu() else { return };
    let x = gpu.upload(&Array3::<f32>::ones((5, 2, 4))).unwrap();
    let config = AttentionConfig::new(Mask::Full);
    let run = |mods: &GpuScoreMods<'_>| {
        let mut r = gpu.recorder();
        let starts = [0, 2, 5];
        varlen::score_mods::forward(&mut r, &x, &x, &x, &starts, &starts, mods, &config)
            .unwrap_err()
    };
    let slopes = gpu.zeros::<f32>(&[3]).unwrap();
    let got = run(&GpuScoreMods::new().with_alibi(&slopes, AlibiOrigin::KeyIndex));
    assert_eq!(got, AttentionError::Slopes { n_heads: 2, got: 3 });
    // A row of a batch, not one for each sequence.
    let mask = gpu.zeros::<u32>(&[2, 1, 1, 5]).unwrap();
    let got = run(&GpuScoreMods::new().with_mask(&mask, MaskPolarity::TrueAttends));
    let want = AttentionError::Broadcast {
        name: "mask",
        expected: [1, 2, 5, 5],
        got: [2, 1, 1, 5],
    };
    assert_eq!(got, want);
}
