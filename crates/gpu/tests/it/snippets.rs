//! The shared shader files against Rust.

use llm_gpu::half::{bf16, f16};
use llm_gpu::testing::gpu;
use llm_gpu::{GpuTensor, Grid, Kernel};
use proptest::prelude::*;

use crate::kernels::{
    LINEAR_PROBE, LinearProbeParams, ROUND_BF16, ROUND_F16, RoundTripParams, TREE_SUM_PROBE,
};

/// Packed words, and the numbers that are in them, as the shader sees them.
fn round(kernel: &'static Kernel, x: &[f32]) -> Option<(Vec<u32>, Vec<f32>)> {
    let gpu = gpu()?;
    let n_words = x.len() as u32 / 2;
    let input = gpu.upload_slice(&[x.len()], x).unwrap();
    let mut recorder = gpu.recorder();
    let packed: GpuTensor<u32> = recorder.output(&[x.len() / 2]).unwrap();
    let back: GpuTensor<f32> = recorder.output(&[x.len()]).unwrap();
    let bindings = [input.read(), packed.write(), back.write()];
    let grid = Grid::linear(x.len() / 2, 64).unwrap();
    recorder
        .dispatch(kernel, &[], &RoundTripParams { n_words }, &bindings, grid)
        .unwrap();
    recorder.submit().unwrap();
    let packed = packed.download_blocking().unwrap();
    let back = back.download_blocking().unwrap();
    Some((packed.into_iter().collect(), back.into_iter().collect()))
}

fn halves(words: &[u32]) -> Vec<u16> {
    words
        .iter()
        .flat_map(|word| [*word as u16, (word >> 16) as u16])
        .collect()
}

#[test]
fn bf16_is_rounded_as_in_rust_with_nan_and_infinity_kept() {
    // Each upper half of an f32, with lower halves at, beside and between the ties.
    let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let x: Vec<f32> = (0..=u16::MAX)
        .flat_map(|upper| lower.map(|lower| f32::from_bits(u32::from(upper) << 16 | lower)))
        .collect();
    let Some((packed, back)) = round(&ROUND_BF16, &x) else {
        return;
    };
    for ((x, got), back) in x.iter().zip(halves(&packed)).zip(back) {
        let want = bf16::from_f32(*x);
        assert_eq!(got, want.to_bits(), "{:08x}", x.to_bits());
        // Exact: the device may only not keep apart what a NaN says, nor numbers below the normal ones.
        let same = back.to_bits() == want.to_f32().to_bits();
        let subnormal = want.to_f32() != 0.0 && !want.is_normal();
        assert!(
            same || x.is_nan() && back.is_nan() || subnormal,
            "{x} {back}"
        );
    }
}

#[test]
fn f16_is_rounded_as_in_rust_with_nan_and_infinity_kept() {
    // Each upper half of an f32, with lower halves at, beside and between the ties of normal f16; those below have their ties in the upper.
    let lower = [
        0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x3001, 0x8000, 0xffff,
    ];
    let x: Vec<f32> = (0..=u16::MAX)
        .flat_map(|upper| lower.map(|lower| f32::from_bits(u32::from(upper) << 16 | lower)))
        .collect();
    let Some((packed, back)) = round(&ROUND_F16, &x) else {
        return;
    };
    for ((x, got), back) in x.iter().zip(halves(&packed)).zip(back) {
        let want = f16::from_f32(*x);
        assert_eq!(got, want.to_bits(), "{:08x}", x.to_bits());
        let same = back.to_bits() == want.to_f32().to_bits();
        assert!(same || x.is_nan() && back.is_nan(), "{x} {back}");
    }
}

#[test]
fn every_invocation_gets_the_sum_of_each_call() {
    let Some(gpu) = gpu() else { return };
    let x: Vec<f32> = (0..64).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
    let input = gpu.upload_slice(&[64], &x).unwrap();
    let mut recorder = gpu.recorder();
    let out = recorder.output::<f32>(&[64, 2]).unwrap();
    let (bindings, grid) = ([input.read(), out.write()], Grid::xyz(1, 1, 1).unwrap());
    recorder
        .dispatch(&TREE_SUM_PROBE, &[], &(), &bindings, grid)
        .unwrap();
    recorder.submit().unwrap();
    let out = out.download_blocking().unwrap();
    let (first, second): (f32, f32) = (
        x.iter().sum(), // whole numbers: exact
        x.iter().zip(0_u8..).map(|(x, i)| f32::from(i) * x).sum(),
    );
    for row in out.outer_iter() {
        assert_eq!((row[0], row[1]), (first, second));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Any place in any grid, also those whose index does not fit.
    #[test]
    fn linear_indices_saturate(places in prop::collection::vec(
        (
            prop_oneof![1..4_u32, 60_000..65_536_u32],
            prop_oneof![1..4_u32, 60_000..65_536_u32],
            prop_oneof![1..4_u32, 60_000..65_536_u32],
            prop_oneof![1..1025_u32, Just(64)],
            any::<[u32; 4]>(),
        )
            .prop_map(|(nx, ny, nz, size, [x, y, z, local])| {
                [x % nx, y % ny, z % nz, nx, ny, nz, size, local % size]
            }),
        64,
    )) {
        if let Some(gpu) = gpu() {
            let input = gpu.upload_slice(&[64, 8], places.as_flattened()).unwrap();
            let mut recorder = gpu.recorder();
            let out = recorder.output::<u32>(&[64]).unwrap();
            let grid = Grid::xyz(1, 1, 1).unwrap();
            let params = LinearProbeParams { n: 64 };
            let bindings = [input.read(), out.write()];
            recorder.dispatch(&LINEAR_PROBE, &[], &params, &bindings, grid).unwrap();
            recorder.submit().unwrap();
            let out = out.download_blocking().unwrap();
            for (place, got) in places.iter().zip(out) {
                let [x, y, z, nx, ny, _, size, local] = place.map(u128::from);
                let want = (((z * ny + y) * nx + x) * size + local).min(u128::from(u32::MAX));
                prop_assert_eq!(u128::from(got), want, "{:?}", place);
            }
        }
    }
}
