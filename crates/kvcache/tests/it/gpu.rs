//! The stores on a device against those of the CPU, on whatever adapter there is (`LLM_GPU=off|auto|require`).

mod attention;
mod dispatches;
mod errors;
mod int4;
mod int8;
mod kinds;
mod model;
mod moves;
mod pages;
mod rows;
mod shaders;
mod single;
mod slots;

use llm_kvcache::gpu::llm_gpu::testing::gpu;
use llm_kvcache::gpu::llm_gpu::{GpuTensor, half};
use llm_kvcache::paged::PageShape;
use llm_numerics::philox::Philox4x32;
use ndarray::{Array3, ArrayD};
use proptest::prelude::*;

use kinds::Kind;

/// Each case takes some milliseconds on a software device.
fn few(cases: u32) -> ProptestConfig {
    ProptestConfig::with_cases(cases)
}

fn shape(
    n_pages: usize,
    page_size: usize,
    n_kv_heads: usize,
    head_dim: usize,
    value_dim: usize,
) -> PageShape {
    PageShape {
        n_pages,
        n_kv_heads,
        page_size,
        head_dim,
        value_dim,
    }
}

/// Features around the sizes of a word of each number type.
fn features() -> impl Strategy<Value = usize> {
    prop_oneof![0..10_usize, Just(64), Just(67)]
}

/// Small pools, with all kinds of features.
fn shapes() -> impl Strategy<Value = PageShape> {
    (1..7_usize, 1..6_usize, 0..4_usize, features(), features())
        .prop_map(|(n_pages, page_size, heads, k, v)| shape(n_pages, page_size, heads, k, v))
}

/// Numbers of all sizes that have a code, and both zeros.
fn numbers(key: u64, [heads, n, features]: [usize; 3]) -> Array3<f32> {
    let random = Philox4x32::new(key);
    let mut i = 0;
    Array3::from_shape_simple_fn((heads, n, features), || {
        i += 1;
        let x = random.normal_f64(2, i) as f32;
        match random.below(1, i, 8) {
            0 => 0.0,
            1 => -0.0,
            2 => x * 1e4,
            3 => x * 1e-6,
            _ => x,
        }
    })
}

fn bits(x: &ArrayD<f32>) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn downloaded(x: &GpuTensor<f32>) -> ArrayD<f32> {
    x.download_blocking().unwrap()
}
