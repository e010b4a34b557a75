//! What the recording functions refuse: nothing is recorded, nothing panics.

use llm_quant::QuantError;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::{FourBit, FourBitCode, FourBitConfig, Scales};
use llm_quant::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
use llm_quant::gpu::matmul::low_rank::{self, GpuLowRank};
use llm_quant::gpu::{GpuFourBit, GpuQuantError, double, four_bit, matmul};

use super::gpu;

fn weights(gpu: &Gpu, shape: &[usize]) -> GpuFourBit {
    let n: usize = shape.iter().product();
    let (packed, scales) = (
        vec![0x77; n.div_ceil(2)],
        Scales::Plain(vec![1.0; n.div_ceil(64)]),
    );
    let weights = FourBit::from_parts(FourBitCode::Nf4, 64, shape, packed, scales).unwrap();
    GpuFourBit::upload(gpu, &weights).unwrap()
}

#[test]
fn sizes_that_do_not_fit() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let w = weights(&gpu, &[3, 5]);
    let x = gpu.zeros::<f32>(&[2, 4]).unwrap();
    let error = matmul::forward(&mut recorder, &x, &w).unwrap_err();
    let inner = QuantError::InnerAxis {
        x: [2, 4],
        weights: [3, 5],
    };
    assert_eq!(error, GpuQuantError::Quant(inner.clone()));
    let error = matmul::backward(&mut recorder, &x, &w).unwrap_err();
    assert_eq!(error, GpuQuantError::Quant(inner));
    let flat = gpu.zeros::<f32>(&[5]).unwrap();
    let error = matmul::forward(&mut recorder, &flat, &w).unwrap_err();
    let (name, expected, got) = ("x", 2, vec![5]);
    assert_eq!(
        error,
        GpuQuantError::Rank {
            name,
            expected,
            got
        }
    );
    let deep = weights(&gpu, &[2, 2, 4]);
    let error = matmul::forward(&mut recorder, &x, &deep).unwrap_err();
    let shape = vec![2, 2, 4];
    assert_eq!(
        error,
        GpuQuantError::Quant(QuantError::WeightRank { shape })
    );
}

#[test]
fn updates_that_do_not_fit() {
    let Some(gpu) = gpu() else { return };
    let zeros = |shape: &[usize]| gpu.zeros::<f32>(shape).unwrap();
    let (a, b, flat) = (zeros(&[2, 5]), zeros(&[3, 2]), zeros(&[5]));
    let error = GpuLowRank::new(&flat, &b, 1.0).unwrap_err();
    let (name, expected, got) = ("a", 2, vec![5]);
    assert_eq!(
        error,
        GpuQuantError::Rank {
            name,
            expected,
            got
        }
    );
    let error = GpuLowRank::new(&b, &b, 1.0).unwrap_err();
    let of_b = [3, 2];
    assert_eq!(
        error,
        GpuQuantError::Quant(QuantError::Rank { a: of_b, b: of_b })
    );
    let error = GpuLowRank::new(&a, &b, f32::INFINITY).unwrap_err();
    let got = f32::INFINITY;
    assert_eq!(error, GpuQuantError::Quant(QuantError::Scaling { got }));

    let w = weights(&gpu, &[3, 4]);
    let update = GpuLowRank::new(&a, &b, 1.0).unwrap();
    let mut recorder = gpu.recorder();
    let (expected, got) = ([3, 4], [3, 5]);
    let error = QuantError::UpdateShape { expected, got };
    let found = low_rank::forward(&mut recorder, &zeros(&[2, 4]), &w, &update).unwrap_err();
    assert_eq!(found, GpuQuantError::Quant(error.clone()));
    let found = low_rank::backward_input(&mut recorder, &zeros(&[2, 3]), &w, &update).unwrap_err();
    assert_eq!(found, GpuQuantError::Quant(error));
    let found = low_rank::forward(&mut recorder, &zeros(&[2, 5]), &w, &update).unwrap_err();
    let (x, weights) = ([2, 5], [3, 4]);
    let inner = QuantError::InnerAxis { x, weights };
    assert_eq!(found, GpuQuantError::Quant(inner));
}

#[test]
fn a_block_that_is_not_offered() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let x = gpu.zeros::<f32>(&[4]).unwrap();
    let config = FourBitConfig::new(FourBitCode::Nf4, 48);
    let error = four_bit::quantize(&mut recorder, &x, &config).unwrap_err();
    assert!(
        matches!(
            error,
            GpuQuantError::Quant(QuantError::Block { got: 48, .. })
        ),
        "{error}"
    );
}

#[test]
fn another_device() {
    let Some(gpu) = gpu() else { return };
    let Ok(other) = Gpu::new_blocking(&GpuOptions::default()) else {
        return;
    };
    let w = weights(&gpu, &[3, 5]);
    let error = four_bit::dequantize(&mut other.recorder(), &w).unwrap_err();
    assert!(
        matches!(error, GpuQuantError::Gpu(GpuError::OtherDevice { .. })),
        "{error}"
    );
}

#[test]
fn nothing_at_all() {
    let Some(gpu) = gpu() else { return };
    for (shape, x) in [([0, 5], [2, 5]), ([3, 0], [2, 0]), ([3, 5], [0, 5])] {
        let w = weights(&gpu, &shape);
        let x = gpu.zeros::<f32>(&x).unwrap();
        let mut recorder = gpu.recorder();
        let y = matmul::forward(&mut recorder, &x, &w).unwrap();
        let [a, b] = [[3, shape[1]], [shape[0], 3]].map(|shape| gpu.zeros::<f32>(&shape).unwrap());
        let update = GpuLowRank::new(&a, &b, 1.0).unwrap();
        let updated = low_rank::forward(&mut recorder, &x, &w, &update).unwrap();
        let all = four_bit::dequantize(&mut recorder, &w).unwrap();
        let again = four_bit::quantize(
            &mut recorder,
            &all,
            &FourBitConfig::new(FourBitCode::Fp4, 32),
        )
        .unwrap();
        let again = double::compress(&mut recorder, again, EightBitSearch::Nearest).unwrap();
        recorder.submit().unwrap();
        assert_eq!(updated.shape(), y.shape());
        assert!(
            { updated.download_blocking().unwrap() }
                .iter()
                .all(|y| *y == 0.0)
        );
        assert_eq!(y.shape(), [x.shape()[0], shape[0]]);
        assert!(y.download_blocking().unwrap().iter().all(|y| *y == 0.0));
        assert_eq!(all.shape(), shape);
        assert_eq!(again.download_blocking().unwrap().shape(), shape);
    }
}
