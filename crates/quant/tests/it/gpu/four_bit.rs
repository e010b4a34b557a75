//! Codes and scales have the CPU's bits, and so have the numbers that they stand for.

use llm_quant::QuantError;
use llm_quant::four_bit::{self as cpu, FourBitCode, FourBitConfig, NonFinite, Scales};
use llm_quant::gpu::{GpuFourBit, GpuQuantError, four_bit};
use ndarray::{Array1, Axis};
use proptest::prelude::*;

use super::{blocks, codes, config, gpu, numbers, packed};

/// Quantizes on the device and on the CPU.
fn both(x: &Array1<f32>, config: &FourBitConfig) -> Option<[cpu::FourBit; 2]> {
    let gpu = gpu()?;
    let on_device = gpu.upload(x).unwrap();
    let mut recorder = gpu.recorder();
    let weights = four_bit::quantize(&mut recorder, &on_device, config).unwrap();
    recorder.submit().unwrap();
    let weights = weights.download_blocking().unwrap();
    Some([weights, cpu::quantize(x, config).unwrap()])
}

/// Equal, NaN too.
fn assert_same([got, want]: &[cpu::FourBit; 2]) {
    assert_eq!(got.packed(), want.packed());
    let (Scales::Plain(got), Scales::Plain(want)) = (got.scales(), want.scales()) else {
        panic!("plain scales");
    };
    let bits = |scales: &[f32]| scales.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(got), bits(want));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn codes_and_scales_have_the_bits_of_the_cpu(
        n in 0_usize..9000,
        code in codes(),
        block in blocks(),
        seed: u64,
    ) {
        let x = numbers(n, seed);
        if let Some(both) = both(&x, &FourBitConfig::new(code, block)) {
            assert_same(&both);
        }
    }

    /// Any bits that are a finite number: tiny ones, huge ones, zeros with a sign.
    #[test]
    fn any_finite_numbers(
        bits in prop::collection::vec(any::<u32>(), 0..200),
        of_one_size: bool,
        code in codes(),
    ) {
        let finite = |bits: u32| {
            // Otherwise the largest of a block makes zeros of nearly all others.
            let bits = if of_one_size { (bits % (1 << 26)) | (bits & (1 << 31)) } else { bits };
            let x = f32::from_bits(bits);
            if x.is_finite() { x } else { 0.0 }
        };
        let x: Array1<f32> = bits.into_iter().map(finite).collect();
        if let Some(both) = both(&x, &FourBitConfig::new(code, 32)) {
            assert_same(&both);
        }
    }

    #[test]
    fn numbers_have_the_bits_of_the_cpu(
        rows in 0_usize..30, // up to 650 blocks, whose scales have three scales
        columns in 0_usize..700,
        code in codes(),
        block in blocks(),
        is_nested: bool,
        seed: u64,
    ) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let w = numbers(rows * columns, seed).into_shape_with_order((rows, columns)).unwrap();
        let weights = packed(&w, code, block, is_nested);
        let want = cpu::dequantize::<f32>(&weights).unwrap();
        let on_device = GpuFourBit::upload(&gpu, &weights).unwrap();
        prop_assert_eq!(&on_device.download_blocking().unwrap(), &weights);
        let mut recorder = gpu.recorder();
        let got = four_bit::dequantize(&mut recorder, &on_device).unwrap();
        recorder.submit().unwrap();
        let got = got.download_blocking().unwrap();
        prop_assert_eq!(got.shape(), want.shape());
        // One rounding less in a nested scale: of the product, which is at most as large as the scale and the offset together.
        let largest = w.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let allowed = if is_nested { 4.0 * largest * f32::EPSILON } else { 0.0 };
        for (got, want) in got.iter().zip(&want) {
            prop_assert!((got - want).abs() <= allowed, "{got} {want}");
        }
    }
}

/// A quotient that lies on a bound between two codes, or next to it: there a wrong rounding is another code.
#[test]
fn numbers_beside_the_bounds() {
    for code in [FourBitCode::Nf4, FourBitCode::Fp4] {
        let mut values = code.values();
        values.sort_by(f32::total_cmp);
        // The reciprocals of the second row have few bits, so that products often lie halfway between two numbers.
        let scales = [1.0_f32, 3.0, 0.7, 1e-30, 2.5e-38, 3e38]
            .into_iter()
            .chain([1.5, 1.25, 1.75, 1.125, 1.375, 1.625, 1.875].map(|x| 1.0 / x))
            .chain((0..64).map(|i| 1.0 + (i as f32 * 0.618).fract()));
        for scale in scales {
            let beside = |pair: &[f32]| {
                let bound = (pair[0] + pair[1]) / 2.0 * scale;
                (-3_i32..=3).map(move |step| f32::from_bits((bound.to_bits() as i32 + step) as u32))
            };
            let mut x: Vec<f32> = values.windows(2).flat_map(beside).collect();
            x.retain(|x| x.abs() <= scale);
            // The scale first in each block, the last of which is short and divides.
            let x: Array1<f32> = { x.chunks(31) }
                .flat_map(|x| std::iter::once(scale).chain(x.iter().copied()))
                .collect();
            if let Some(both) = both(&x, &FourBitConfig::new(code, 32)) {
                assert_same(&both);
            }
        }
    }
}

/// Magnitudes that count as a larger one when they divide, in full blocks and in a short one.
#[test]
fn zeros_and_numbers_too_small_to_divide_by() {
    for code in [FourBitCode::Nf4, FourBitCode::Fp4] {
        for tiny in [0.0, 1e-45, 3e-39, 9.9e-39, 1.1e-38] {
            for n in [32, 45, 64] {
                let x = Array1::from_shape_fn(n, |i| tiny * (1.0 - i as f32 % 5.0 / 2.0));
                if let Some(both) = both(&x, &FourBitConfig::new(code, 32)) {
                    assert_same(&both);
                }
            }
        }
    }
}

#[test]
fn numbers_that_are_not_finite() {
    let Some(gpu) = gpu() else { return };
    let mut x = numbers(200, 3);
    (x[70], x[150]) = (f32::NEG_INFINITY, f32::NAN);
    let config = FourBitConfig::new(FourBitCode::Nf4, 32);
    let mut recorder = gpu.recorder();
    let on_device = gpu.upload(&x).unwrap();
    let refused = four_bit::quantize(&mut recorder, &on_device, &config).unwrap();
    recorder.submit().unwrap();
    let error = refused.download_blocking().unwrap_err();
    let (index, value) = (70, f32::NEG_INFINITY);
    assert_eq!(
        error,
        GpuQuantError::Quant(QuantError::NonFinite { index, value })
    );
    assert_eq!(
        error,
        GpuQuantError::Quant(cpu::quantize(&x, &config).unwrap_err())
    );

    let poison = config.with_non_finite(NonFinite::PoisonBlock);
    let Some(both) = both(&x, &poison) else {
        return;
    };
    assert_same(&both);
    let Scales::Plain(scales) = both[0].scales() else {
        panic!("plain scales")
    };
    let is_nan: Vec<bool> = scales.iter().map(|x| x.is_nan()).collect();
    assert_eq!(is_nan, [false, false, true, false, true, false, false]);
}

/// More blocks than a dimension of a grid may have workgroups.
#[test]
fn a_grid_that_is_folded() {
    let x = numbers(32 * 70_000, 1);
    let Some(both) = both(&x, &FourBitConfig::new(FourBitCode::Fp4, 32)) else {
        return;
    };
    assert_same(&both);
    let halves = x.view().split_at(Axis(0), x.len() / 2);
    assert_ne!(halves.0, halves.1); // not a test of numbers that are all the same
}
