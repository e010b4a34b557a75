//! Packed sequences on the GPU equal the reference, forward and backward.

use llm_attention::gpu::{flash, varlen};
use llm_attention::{AttentionConfig, CausalAlignment, Mask, reference};
use ndarray::{Array3, Array4, Axis};
use proptest::prelude::*;

use super::{close, few, gpu, upload, wide, wide_lse};
use crate::varlen::{Packed, packed_up_to};
use llm_attention::gpu::llm_gpu::Gpu;

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
