//! The compute shaders against the reference, on whatever adapter there is (`LLM_GPU=off|auto|require`).

mod decode;
mod errors;
mod flash;
mod packed_bias;
mod paged;
mod score_mods;
mod shaders;
mod sinks;
mod variants;
mod varlen;

use llm_attention::gpu::llm_gpu::testing::gpu;
use llm_attention::gpu::llm_gpu::{Gpu, GpuTensor};
use llm_attention::gpu::{GpuGradients, Variant, download_lse_blocking};
use llm_attention::{AttentionConfig, Gradients};
use llm_numerics::testing::{Tolerance, compare};
use ndarray::{Array, Array4, ArrayD, ArrayRef, Dimension};
use proptest::prelude::*;

use crate::cases::{Case, Sizes};

/// Sums of at most 130 terms of normal numbers in f32: each score errs by some 2^-24 of the sum of its terms' sizes, about
/// 100, and gradients are sums of some hundred products with weights of such scores.
const F32: Tolerance = Tolerance::new(2e-4, 2e-4);

/// A case whose arrays f32 holds exactly, so that only the shader's own rounding is seen.
fn case_in_f32(sizes: Sizes, config: AttentionConfig, key: u64) -> Case {
    in_f32(Case::new(sizes, config, key))
}

fn in_f32(mut case: Case) -> Case {
    for x in [&mut case.q, &mut case.k, &mut case.v, &mut case.dout] {
        x.mapv_inplace(|x| f64::from(x as f32));
    }
    case
}

fn upload<D: Dimension>(gpu: &Gpu, x: &Array<f64, D>) -> GpuTensor<f32> {
    gpu.upload(&x.mapv(|x| x as f32)).unwrap()
}

fn wide(x: &GpuTensor<f32>) -> ArrayD<f64> {
    x.download_blocking().unwrap().mapv(f64::from)
}

fn wide_lse(x: &GpuTensor<f32>) -> ArrayD<f64> {
    download_lse_blocking(x).unwrap().mapv(f64::from)
}

fn close<D: Dimension, E: Dimension>(
    got: &ArrayRef<f64, D>,
    want: &ArrayRef<f64, E>,
) -> Result<(), TestCaseError> {
    compare(got, want, F32)
        .map(drop)
        .map_err(|mismatch| TestCaseError::fail(mismatch.to_string()))
}

fn close_gradients(got: &GpuGradients, want: &Gradients<f64>) -> Result<(), TestCaseError> {
    close(&wide(&got.dq), &want.dq)?;
    close(&wide(&got.dk), &want.dk)?;
    close(&wide(&got.dv), &want.dv)
}

/// The base kernel, and the one in f32 with subgroups where it can compute a case with these features on this device.
fn variants(gpu: &Gpu, head_dim: usize, value_dim: usize) -> [Variant; 2] {
    let in_fours = |n: usize| n > 0 && n.is_multiple_of(4);
    let lanes = gpu.capabilities().subgroups;
    let subgroups = lanes.is_some_and(|(smallest, largest)| smallest >= 4 && largest <= 64);
    match subgroups && in_fours(head_dim) && in_fours(value_dim) {
        true => [Variant::Base, Variant::Subgroups],
        false => [Variant::Base, Variant::Auto],
    }
}

/// Each case takes some milliseconds on a software device.
fn few(cases: u32) -> ProptestConfig {
    ProptestConfig::with_cases(cases)
}

/// Lengths around the sizes of a tile.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(31), Just(32), Just(33), Just(65), 1_usize..80]
}

/// Features around a vector, a chunk of the product, and the columns of a workgroup; half of them for kernels that load vectors.
fn features() -> impl Strategy<Value = (usize, usize)> {
    let one = || prop_oneof![4 => 1_usize..10, 4 => 31_usize..34, 1 => Just(64), 1 => 127_usize..131, 1 => Just(160)];
    (one(), one(), any::<bool>()).prop_map(|(head_dim, value_dim, in_fours)| match in_fours {
        true => (head_dim.next_multiple_of(4), value_dim.next_multiple_of(4)),
        false => (head_dim, value_dim),
    })
}

/// Sizes of several tiles; with many features only one batch row and two heads, as a software device is slow.
fn sizes() -> impl Strategy<Value = Sizes> {
    let heads = (1_usize..3, 1_usize..3);
    let lengths = (length(), length());
    (1_usize..3, heads, lengths, features()).prop_map(|(batch, heads, lengths, features)| {
        let many = features.0 + features.1 > 70;
        let n_kv_heads = if many { 1 } else { heads.0 };
        Sizes {
            batch: if many { 1 } else { batch },
            n_heads: n_kv_heads * heads.1,
            n_kv_heads,
            seq: lengths.0,
            kv_seq: lengths.1,
            head_dim: features.0,
            value_dim: features.1,
        }
    })
}

fn ones(shape: [usize; 4]) -> Array4<f32> {
    Array4::ones(shape)
}
