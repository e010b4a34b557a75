//! Integers with a scale and a zero point.

use llm_numerics::Storage;
use llm_numerics::half::bf16;
use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme, Integers};
use llm_quant::reference;
use ndarray::{Array1, Array2, arr1, s};
use proptest::prelude::*;

use super::strategies::{number, numbers};

fn config() -> impl Strategy<Value = IntegerConfig> {
    let bits = prop_oneof![Just(IntegerBits::Four), Just(IntegerBits::Eight)];
    let scheme = prop_oneof![Just(IntegerScheme::Symmetric), Just(IntegerScheme::Affine)];
    let block = prop_oneof![1..10_usize, 1..400_usize, Just(usize::MAX)];
    (bits, scheme, block).prop_map(|(bits, scheme, block)| IntegerConfig::new(bits, scheme, block))
}

fn codes(integers: &Integers, len: usize) -> Vec<u8> {
    match integers.config().bits {
        IntegerBits::Four => reference::blocks::unpack(integers.packed(), len),
        _ => integers.packed().to_vec(),
    }
}

fn back(integers: &Integers) -> Vec<f32> {
    integer::dequantize(integers).unwrap().into_iter().collect()
}

/// Numbers of which the largest differences do not fit `f32`, too.
fn any_numbers() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        4 => numbers(),
        1 => prop::collection::vec(prop_oneof![number(), -f32::MAX..=f32::MAX], 0..40),
    ]
}

proptest! {
    #[test]
    fn codes_scales_and_zero_points_are_those_of_the_reference(x in any_numbers(), config in config()) {
        let integers = integer::quantize(&arr1(&x), &config).unwrap();
        let is_affine = config.scheme == IntegerScheme::Affine;
        let want = reference::integer::quantize(&x, &config);
        let want_codes: Vec<u8> = want.iter().flat_map(|block| block.0.clone()).collect();
        prop_assert_eq!(codes(&integers, x.len()), want_codes);
        let scales: Vec<f32> = want.iter().map(|block| block.1).collect();
        prop_assert_eq!(integers.scales(), &scales[..]);
        let zeros: Vec<u8> = want.iter().filter(|_| is_affine).map(|block| block.2).collect();
        prop_assert_eq!(integers.zero_points(), &zeros[..]);
        let numbers: Vec<f32> = reference::integer::dequantize(&want).iter().map(|&x| x as f32).collect();
        prop_assert_eq!(back(&integers), numbers);
    }

    /// Half a step, and roundings relative to 256 steps; beside the smallest numbers one of them.
    #[test]
    fn the_error_is_at_most_half_a_step(x in any_numbers(), config in config()) {
        let integers = integer::quantize(&arr1(&x), &config).unwrap();
        for (i, (&x, got)) in x.iter().zip(back(&integers)).enumerate() {
            let scale = f64::from(integers.scales()[i / config.block]);
            if got.is_infinite() {
                // Half a step beyond the largest number there is.
                prop_assert!(f64::from(x).abs() + scale * 0.5001 >= f64::from(f32::MAX));
                continue;
            }
            let error = (f64::from(x) - f64::from(got)).abs();
            prop_assert!(error <= scale * (0.5 + 1e-4) + 256.0 * 1e-45, "{x} became {got}, scale {scale}");
        }
    }

    #[test]
    fn zeros_stay_zeros_and_codes_stay_codes(x in numbers(), config in config()) {
        let integers = integer::quantize(&arr1(&x), &config).unwrap();
        let once = back(&integers);
        for (x, back) in x.iter().zip(&once) {
            prop_assert!(*x != 0.0 || *back == 0.0);
        }
        prop_assume!(integers.scales().iter().all(|&scale| scale == 0.0 || scale > 1e-30));
        let again = integer::quantize(&arr1(&once), &config).unwrap();
        prop_assert_eq!(again.packed(), integers.packed());
        prop_assert_eq!(again.zero_points(), integers.zero_points());
    }

    #[test]
    fn a_power_of_two_changes_the_scales_alone(x in numbers(), config in config(), power in -20..=10_i32) {
        let before = integer::quantize(&arr1(&x), &config).unwrap();
        prop_assume!(before.scales().iter().all(|&scale| scale == 0.0 || scale > 1e-27));
        let factor = 2_f32.powi(power);
        let scaled: Vec<f32> = x.iter().map(|x| x * factor).collect();
        let after = integer::quantize(&arr1(&scaled), &config).unwrap();
        prop_assert_eq!(before.packed(), after.packed());
        prop_assert_eq!(before.zero_points(), after.zero_points());
        let want: Vec<f32> = before.scales().iter().map(|scale| scale * factor).collect();
        prop_assert_eq!(after.scales(), &want[..]);
    }

    #[test]
    fn strides_and_types_do_not_matter(seed in any::<u64>(), config in config(), rows in 1..9_usize, columns in 0..40_usize) {
        let wide = Array2::from_shape_fn([2 * columns, 3 * rows], |(i, j)| ((seed >> ((7 * i + j) % 50)) % 1999) as f32 / 512.0 - 1.5);
        let view = wide.slice(s![..;-2, ..;3]).reversed_axes();
        let halves = view.mapv(bf16::from_f32);
        let copied = halves.mapv(Storage::to_f32).as_standard_layout().into_owned();
        let want = integer::quantize(&copied, &config).unwrap();
        prop_assert_eq!(&integer::quantize(&halves, &config).unwrap(), &want);
        let narrow = integer::dequantize::<bf16>(&want).unwrap();
        prop_assert_eq!(narrow, integer::dequantize::<f32>(&want).unwrap().mapv(bf16::from_f32));
    }
}

#[test]
fn tasks_and_threads_do_not_show() {
    let x = Array1::from_shape_fn(200_001, |i| ((i * 7919) % 10_007) as f32 / 3000.0 - 1.6);
    for (bits, block) in [(IntegerBits::Four, 33), (IntegerBits::Eight, 70_000)] {
        let config = IntegerConfig::new(bits, IntegerScheme::Affine, block);
        let integers = integer::quantize(&x, &config).unwrap();
        let want = reference::integer::quantize(&x.to_vec(), &config);
        let want_codes: Vec<u8> = want.iter().flat_map(|block| block.0.clone()).collect();
        assert_eq!(codes(&integers, x.len()), want_codes);
        let numbers: Vec<f32> = reference::integer::dequantize(&want)
            .iter()
            .map(|&x| x as f32)
            .collect();
        assert_eq!(back(&integers), numbers);
    }
}
