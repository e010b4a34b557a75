//! What the recording functions refuse: nothing is recorded, nothing panics.

use llm_quant::QuantError;
use llm_quant::four_bit::{FourBit, FourBitCode, FourBitConfig, Scales};
use llm_quant::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
use llm_quant::gpu::{GpuFourBit, GpuQuantError, four_bit, matmul};

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
        let all = four_bit::dequantize(&mut recorder, &w).unwrap();
        let again = four_bit::quantize(
            &mut recorder,
            &all,
            &FourBitConfig::new(FourBitCode::Fp4, 32),
        )
        .unwrap();
        recorder.submit().unwrap();
        assert_eq!(y.shape(), [x.shape()[0], shape[0]]);
        assert!(y.download_blocking().unwrap().iter().all(|y| *y == 0.0));
        assert_eq!(all.shape(), shape);
        assert_eq!(again.download_blocking().unwrap().shape(), shape);
    }
}
