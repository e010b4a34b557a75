//! The compute shaders against the CPU and the reference, on whatever adapter there is (`LLM_GPU=off|auto|require`).

mod double;
mod errors;
mod four_bit;
mod low_rank;
mod matmul;
mod shaders;

use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::{self as cpu, FourBit, FourBitCode, FourBitConfig};
use llm_quant::gpu::llm_gpu::testing::gpu;
use ndarray::{Array1, Array2};
use proptest::prelude::*;

/// Each case takes some milliseconds on a software device.
fn config() -> ProptestConfig {
    ProptestConfig::with_cases(32)
}

fn codes() -> impl Strategy<Value = FourBitCode> {
    prop_oneof![Just(FourBitCode::Nf4), Just(FourBitCode::Fp4)]
}

fn blocks() -> impl Strategy<Value = usize> {
    prop::sample::select(&cpu::BLOCKS[..])
}

/// Numbers of many sizes; each run of 50 has a size of its own.
fn numbers(n: usize, seed: u64) -> Array1<f32> {
    let random = llm_numerics::philox::Philox4x32::new(seed);
    Array1::from_shape_fn(n, |i| {
        let size = random.uniform_f32(1, i as u64 / 50) * 40.0 - 20.0;
        (random.uniform_f32(0, i as u64) - 0.5) * size.exp2()
    })
}

/// Packed weights of a matrix, with plain or nested scales.
fn packed(w: &Array2<f32>, code: FourBitCode, block: usize, is_nested: bool) -> FourBit {
    let packed = cpu::quantize(w, &FourBitConfig::new(code, block)).unwrap();
    if is_nested {
        llm_quant::double::compress(packed, EightBitSearch::Nearest).unwrap()
    } else {
        packed
    }
}
