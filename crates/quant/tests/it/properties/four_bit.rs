//! NF4 and FP4.

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_quant::calculator::{self, ScaleStorage};
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::{self, FourBit, FourBitCode, FourBitConfig, Scales};
use llm_quant::{double, dynamic_map, fp4, nf4, normal, reference};
use ndarray::{Array1, Array2, arr1, s};
use proptest::prelude::*;

use super::strategies::{config, numbers};

fn plain(weights: &FourBit) -> &[f32] {
    match weights.scales() {
        Scales::Plain(scales) => scales,
        _ => unreachable!(),
    }
}

fn back(weights: &FourBit) -> Vec<f32> {
    four_bit::dequantize(weights).unwrap().into_iter().collect()
}

proptest! {
    #[test]
    fn codes_and_numbers_are_those_of_the_reference(x in numbers(), config in config()) {
        let weights = four_bit::quantize(&arr1(&x), &config).unwrap();
        let values = config.code.values();
        let (codes, scales) = reference::blocks::quantize(&x, &values, config.block);
        prop_assert_eq!(plain(&weights), &scales[..]);
        prop_assert_eq!(&reference::blocks::unpack(weights.packed(), x.len()), &codes);
        let want = reference::blocks::dequantize(&codes, &scales, &values, config.block);
        let want: Vec<f32> = want.iter().map(|&x| x as f32).collect();
        prop_assert_eq!(back(&weights), want);
    }

    // ANCHOR: half_step
    /// Each element is off by half the distance between the two values around it at most, times the scale. Eight roundings of
    /// `f32` are between the quotient that is coded and the exact one, all relative to numbers up to 1.
    #[test]
    fn the_error_is_at_most_half_the_local_step(x in numbers(), config in config()) {
        let weights = four_bit::quantize(&arr1(&x), &config).unwrap();
        let mut values = config.code.values();
        values.sort_by(f32::total_cmp);
        for (i, (&x, got)) in x.iter().zip(back(&weights)).enumerate() {
            let scale = f64::from(plain(&weights)[i / config.block]);
            let quotient = if scale == 0.0 { 0.0 } else { f64::from(x) / scale };
            let above = values.iter().find(|&&v| f64::from(v) >= quotient - 1e-6).copied().unwrap_or(1.0);
            let below = values.iter().rfind(|&&v| f64::from(v) <= quotient + 1e-6).copied().unwrap_or(-1.0);
            let half = f64::from(above.max(below) - above.min(below)) / 2.0;
            let error = (f64::from(x) - f64::from(got)).abs();
            prop_assert!(error <= scale * (half + 1e-6), "{x} became {got}, scale {scale}, half a step {half}");
        }
    }
    // ANCHOR_END: half_step

    #[test]
    fn quantizing_again_changes_nothing(x in numbers(), config in config()) {
        let once = back(&four_bit::quantize(&arr1(&x), &config).unwrap());
        let twice = back(&four_bit::quantize(&arr1(&once), &config).unwrap());
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn zeros_stay_zeros(mut x in numbers(), config in config(), zeros in prop::collection::vec(0..400_usize, 5)) {
        for zero in zeros {
            if let Some(x) = x.get_mut(zero) {
                *x = 0.0;
            }
        }
        let got = back(&four_bit::quantize(&arr1(&x), &config).unwrap());
        for (x, got) in x.iter().zip(got) {
            prop_assert!(*x != 0.0 || got == 0.0);
        }
    }

    /// Where nothing leaves the normal numbers; a short block of zeros is left out, its scale is a constant.
    #[test]
    fn a_power_of_two_changes_the_scales_alone(x in numbers(), config in config(), power in -30..=10_i32) {
        let before = four_bit::quantize(&arr1(&x), &config).unwrap();
        prop_assume!(plain(&before).iter().all(|&scale| scale == 0.0 || scale > 1e-27));
        let factor = 2_f32.powi(power);
        let scaled: Vec<f32> = x.iter().map(|x| x * factor).collect();
        let after = four_bit::quantize(&arr1(&scaled), &config).unwrap();
        prop_assume!(plain(&after).iter().all(|&scale| scale == 0.0 || scale > 1e-37));
        prop_assert_eq!(before.packed(), after.packed());
        let want: Vec<f32> = plain(&before).iter().map(|scale| scale * factor).collect();
        prop_assert_eq!(plain(&after), &want[..]);
    }

    /// Also where a task ends, and for half types.
    #[test]
    fn strides_and_types_do_not_matter(seed in any::<u64>(), config in config(), rows in 1..9_usize, columns in 0..40_usize) {
        let number = |i: usize| ((seed >> (i % 50)) % 1999) as f32 / 512.0 - 1.5;
        let wide = Array2::from_shape_fn([2 * columns, 3 * rows], |(i, j)| number(7 * i + j));
        let view = wide.slice(s![..;-2, ..;3]).reversed_axes();
        let copied = view.as_standard_layout().into_owned();
        let want = four_bit::quantize(&copied, &config).unwrap();
        prop_assert_eq!(&four_bit::quantize(&view, &config).unwrap(), &want);
        let halves = view.mapv(|x| f16::from_f32(bf16::from_f32(x).to_f32()));
        let brains = halves.mapv(|x| bf16::from_f32(x.to_f32()));
        let narrow = four_bit::quantize(&halves, &config).unwrap();
        prop_assert_eq!(&four_bit::quantize(&brains, &config).unwrap(), &narrow);
        prop_assert_eq!(&four_bit::quantize(&halves.mapv(Storage::to_f32), &config).unwrap(), &narrow);
        // Into an array with strides.
        let mut out = Array2::from_elem(wide.dim(), f16::ZERO);
        let mut part = out.slice_mut(s![..;2, ..;-3]).reversed_axes();
        four_bit::dequantize_into(&narrow, &mut part).unwrap();
        let want = four_bit::dequantize::<f32>(&narrow).unwrap();
        prop_assert_eq!(part.to_owned().into_dyn(), want.mapv(f16::from_f32));
    }

    #[test]
    // ANCHOR: compressed
    fn compressed_scales_are_those_of_the_reference(scales in numbers()) {
        let nested = double::quantize(&scales, EightBitSearch::Nearest).unwrap();
        let map = dynamic_map::signed8();
        let (codes, absmax) = reference::double::quantize_with_offset(&scales, nested.offset(), &map);
        prop_assert_eq!(nested.codes(), &codes[..]);
        prop_assert_eq!(nested.absmax(), &absmax[..]);
        let want = reference::double::dequantize(&codes, &absmax, nested.offset(), &map);
        prop_assert_eq!(double::dequantize(&nested).unwrap(), want);
        // The mean in f64 differs by rounding alone: 400 numbers, each sum off by half a unit in the last place of their magnitudes' sum.
        let (_, _, offset) = reference::double::quantize(&scales, &map);
        let size: f32 = scales.iter().map(|x| x.abs()).sum::<f32>() / scales.len().max(1) as f32;
        prop_assert!((nested.offset() - offset).abs() <= 60.0 * f32::EPSILON * size);
    }
    // ANCHOR_END: compressed
}

#[test]
fn tasks_and_threads_do_not_show() {
    // 200 000 numbers are four tasks; the odd one is in the last.
    let x = Array1::from_shape_fn(200_001, |i| ((i * 7919) % 10_007) as f32 / 3000.0 - 1.6);
    let config = FourBitConfig::new(FourBitCode::Nf4, 4096);
    let weights = four_bit::quantize(&x, &config).unwrap();
    let (codes, scales) = reference::blocks::quantize(&x.to_vec(), &nf4::code(), 4096);
    assert_eq!(weights.packed(), reference::blocks::pack(&codes, 7));
    assert_eq!(plain(&weights), scales);
    let want = reference::blocks::dequantize(&codes, &scales, &nf4::code(), 4096);
    let want: Vec<f32> = want.iter().map(|&x| x as f32).collect();
    assert_eq!(back(&weights), want);
}

#[test]
fn nothing_is_quantized_to_nothing() {
    let config = FourBitConfig::new(FourBitCode::Fp4, 64);
    for shape in [[0, 5], [5, 0], [0, 0]] {
        let weights = four_bit::quantize(&Array2::<f32>::zeros(shape), &config).unwrap();
        assert!(weights.is_empty() && weights.packed().is_empty() && weights.bytes() == 0);
        let weights = double::compress(weights, EightBitSearch::Nearest).unwrap();
        let back = four_bit::dequantize::<bf16>(&weights).unwrap();
        assert_eq!(back.shape(), shape);
    }
}

#[test]
fn codes_are_what_their_definitions_say() {
    // ANCHOR: definition
    // The steps in f32 move a probability by 6e-8 at most, and a quantile by that over
    // the density of the outermost, 0.072.
    for (got, want) in nf4::code().iter().zip(reference::normal::nf4(nf4::OFFSET)) {
        assert!((f64::from(*got) - want).abs() < 2e-6, "{got} {want}");
    }
    // ANCHOR_END: definition
    for i in 1..200 {
        let p = f64::from(i) / 200.0;
        let (got, want) = (normal::quantile(p).unwrap(), reference::normal::quantile(p));
        assert!((got - want).abs() < 1e-13, "{p}: {got} {want}");
    }
    let by_size: Vec<f32> = [0.0, 0.0625, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]
        .map(|x| x / 12.0)
        .to_vec();
    let mut positive = fp4::code()[..8].to_vec();
    positive.sort_by(f32::total_cmp);
    assert_eq!(positive, by_size);
}

proptest! {
    #[test]
    // ANCHOR: calculator
    fn bytes_are_those_of_the_calculator(len in 0..6000_usize, config in config()) {
        let weights = four_bit::quantize(&Array1::<f32>::zeros(len), &config).unwrap();
        let bytes = |scales| calculator::four_bit_bytes(len as u64, config.block, scales).unwrap();
        prop_assert_eq!(weights.bytes() as u64, bytes(ScaleStorage::Plain));
        let nested = double::compress(weights, EightBitSearch::Nearest).unwrap();
        prop_assert_eq!(nested.bytes() as u64, bytes(ScaleStorage::Nested));
        // An offset, half a byte, and a scale each for a block and a nested block that are not full.
        let bits = calculator::bits_per_weight(4, config.block, ScaleStorage::Nested).unwrap();
        let excess = nested.bytes() as f64 - bits * len as f64 / 8.0;
        prop_assert!((0.0..=4.0 + 0.5 + 1.1 + 4.1).contains(&excess), "{}", excess);
    }
    // ANCHOR_END: calculator
}
