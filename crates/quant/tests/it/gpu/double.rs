//! Scales that are quantized on the device have the CPU's bits: codes, their scales, and the mean.

use llm_quant::QuantError;
use llm_quant::double as cpu;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::NonFinite;
use llm_quant::four_bit::{self as cpu_four_bit, FourBit, FourBitCode, FourBitConfig, Scales};
use llm_quant::gpu::llm_gpu::Gpu;
use llm_quant::gpu::{GpuFourBit, GpuQuantError, double, four_bit};
use ndarray::Array1;
use proptest::prelude::*;

use super::{blocks, codes, config, gpu, numbers};

const SEARCHES: [EightBitSearch; 2] = [EightBitSearch::Nearest, EightBitSearch::BitsandbytesCpu];

/// Packed weights with these scales.
fn with_scales(scales: &[f32]) -> FourBit {
    let shape = [32 * scales.len()];
    let packed = vec![0x3c; 16 * scales.len()];
    let scales = Scales::Plain(scales.to_vec());
    FourBit::from_parts(FourBitCode::Nf4, 32, &shape, packed, scales).unwrap()
}

fn on_device(
    gpu: &Gpu,
    weights: &FourBit,
    search: EightBitSearch,
) -> Result<FourBit, GpuQuantError> {
    let weights = GpuFourBit::upload(gpu, weights).unwrap();
    let mut recorder = gpu.recorder();
    let nested = double::compress(&mut recorder, weights, search).unwrap();
    recorder.submit().unwrap();
    nested.download_blocking()
}

/// The same bits as the CPU, also of what it refuses.
fn check(gpu: &Gpu, scales: &[f32]) -> Result<(), TestCaseError> {
    let weights = with_scales(scales);
    for search in SEARCHES {
        let got = on_device(gpu, &weights, search);
        match (got, cpu::compress(weights.clone(), search)) {
            (Ok(got), Ok(want)) => {
                let (Scales::Nested(got), Scales::Nested(want)) = (got.scales(), want.scales())
                else {
                    panic!("nested scales");
                };
                prop_assert_eq!(got.offset().to_bits(), want.offset().to_bits());
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(got.absmax()), bits(want.absmax()));
                prop_assert_eq!(got.codes(), want.codes());
            }
            (Err(GpuQuantError::Quant(got)), Err(want)) => {
                prop_assert_eq!(got.to_string(), want.to_string()); // NaN too
            }
            (got, want) => prop_assert!(false, "{got:?} {want:?}"),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    /// Fewer than a register, than a turn, than a run; several runs.
    #[test]
    fn scales_of_many_sizes(n in prop_oneof![0..40_usize, 0..3000_usize], seed: u64, is_signed: bool) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let scales = numbers(n, seed).mapv(|x| if is_signed { x } else { x.abs() });
        check(&gpu, &scales.to_vec())?;
    }

    /// Nearly equal scales, as weights have them, whose rounded mean decides everything.
    #[test]
    fn scales_near_each_other(n in 1..3000_usize, seed: u64, size in -45..38_i32) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let random = llm_numerics::philox::Philox4x32::new(seed);
        let scale = |i| (1.0 + random.uniform_f32(3, i as u64)) * 10_f32.powi(size);
        check(&gpu, &(0..n).map(scale).collect::<Vec<_>>())?;
    }

    /// Any bits: tiny scales, huge ones, zeros with a sign, infinities and NaN.
    #[test]
    fn any_scales(bits in prop::collection::vec(any::<u32>(), 0..600), is_tiny: bool) {
        let Some(gpu) = gpu() else { return Ok(()) };
        // Otherwise the largest of a block makes zeros of nearly all others.
        let scale = |bits: u32| f32::from_bits(if is_tiny { (bits % (1 << 24)) | (bits & (1 << 31)) } else { bits });
        check(&gpu, &bits.into_iter().map(scale).collect::<Vec<_>>())?;
    }

    /// Quantized from numbers to nested scales without leaving the device.
    #[test]
    fn numbers_have_the_codes_and_nested_scales_of_the_cpu(
        n in 0..40_000_usize, code in codes(), block in blocks(), seed: u64, by_table: bool,
    ) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let x = numbers(n, seed);
        let config = FourBitConfig::new(code, block);
        let search = SEARCHES[usize::from(by_table)];
        let mut recorder = gpu.recorder();
        let weights = four_bit::quantize(&mut recorder, &gpu.upload(&x).unwrap(), &config).unwrap();
        let weights = double::compress(&mut recorder, weights, search).unwrap();
        let y = four_bit::dequantize(&mut recorder, &weights).unwrap();
        recorder.submit().unwrap();
        let want = cpu::compress(cpu_four_bit::quantize(&x, &config).unwrap(), search).unwrap();
        prop_assert_eq!(weights.download_blocking().unwrap(), want.clone());
        // A kernel that reads nested scales finds them where they were written.
        let want = cpu_four_bit::dequantize::<f32>(&want).unwrap();
        let largest = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        for (got, want) in y.download_blocking().unwrap().iter().zip(&want) {
            prop_assert!((got - want).abs() <= 4.0 * largest * f32::EPSILON, "{got} {want}");
        }
    }
}

/// Enough scales for each level of the cascade, and ends in each of them.
#[test]
fn all_levels_of_the_sum() {
    let Some(gpu) = gpu() else { return };
    let all = numbers(140_000, 4).mapv(f32::abs).to_vec();
    // A turn is 32 scales, a run 16 turns, of which 16 make one of the next level.
    for n in [
        511,
        512,
        513,
        8191,
        8192,
        9000,
        131_071,
        131_072,
        140_000 - 3,
    ] {
        check(&gpu, &all[..n]).unwrap();
    }
}

#[test]
fn zeros_and_scales_too_small_to_divide_by() {
    let Some(gpu) = gpu() else { return };
    for n in [1, 3, 7, 8, 33, 255, 256, 257, 600] {
        check(&gpu, &vec![0.0; n]).unwrap();
        check(&gpu, &vec![-0.0; n]).unwrap();
        for tiny in [1e-45, 3e-39, 9.9e-39, 1.1e-38, 1e-37] {
            let scale = |i: usize| tiny * (i % 5) as f32;
            check(&gpu, &(0..n).map(scale).collect::<Vec<_>>()).unwrap();
        }
    }
    // Weights of zeros, whose last block has the smallest scale that divides.
    let config = FourBitConfig::new(FourBitCode::Nf4, 64);
    for n in [64 * 300, 64 * 300 + 5] {
        let weights = cpu_four_bit::quantize(&Array1::<f32>::zeros(n), &config).unwrap();
        for search in SEARCHES {
            let want = cpu::compress(weights.clone(), search).unwrap();
            assert_eq!(on_device(&gpu, &weights, search).unwrap(), want);
        }
    }
}

#[test]
fn means_that_are_not_finite() {
    let Some(gpu) = gpu() else { return };
    for n in [2, 40, 700] {
        check(&gpu, &vec![f32::MAX; n]).unwrap();
        let mut scales = vec![1.0; n];
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            scales[n - 1] = special;
            check(&gpu, &scales).unwrap();
        }
        scales[0] = f32::INFINITY;
        check(&gpu, &scales).unwrap(); // and the other is the negative one: no mean at all
    }
    // The mean is finite, a difference from it is not.
    let scales = [-3e38, -3e38, 3.4e38, -3e38];
    check(&gpu, &scales).unwrap();
    let error = on_device(&gpu, &with_scales(&scales), EightBitSearch::Nearest).unwrap_err();
    let error_of_cpu = cpu::compress(with_scales(&scales), EightBitSearch::Nearest).unwrap_err();
    assert_eq!(error, GpuQuantError::Quant(error_of_cpu));
}

/// A number that is refused is named before the scale that it spoils.
#[test]
fn numbers_that_are_not_finite_come_first() {
    let Some(gpu) = gpu() else { return };
    let mut x = numbers(500, 3);
    x[70] = f32::INFINITY;
    let config = FourBitConfig::new(FourBitCode::Nf4, 32);
    let quantized = |config: &FourBitConfig| {
        let mut recorder = gpu.recorder();
        let weights = four_bit::quantize(&mut recorder, &gpu.upload(&x).unwrap(), config).unwrap();
        let weights = double::compress(&mut recorder, weights, EightBitSearch::Nearest).unwrap();
        recorder.submit().unwrap();
        weights.download_blocking().unwrap_err()
    };
    let (index, value) = (70, f32::INFINITY);
    assert_eq!(
        quantized(&config),
        GpuQuantError::Quant(QuantError::NonFinite { index, value })
    );
    let poisoned = quantized(&config.with_non_finite(NonFinite::PoisonBlock));
    assert!(
        matches!(poisoned, GpuQuantError::Quant(QuantError::NonFinite { index: 0, value }) if value.is_nan())
    );
}

#[test]
fn nested_scales_stay() {
    let Some(gpu) = gpu() else { return };
    let weights = with_scales(&[1.0, 2.0, 4.0]);
    let nested = cpu::compress(weights, EightBitSearch::Nearest).unwrap();
    let got = on_device(&gpu, &nested, EightBitSearch::BitsandbytesCpu).unwrap();
    assert_eq!(got, nested);
}
