//! Codes of four bits: looked up and multiplied.

use llm_numerics::half::{bf16, f16};
use llm_numerics::simd::{self, CHUNK, ShortChunk, Sixteen, WholeChunk};
use proptest::prelude::*;

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -2.0..2.0_f32, 1 => Just(0.0), 1 => Just(-0.0), 1 => any::<f32>()]
}

/// Code `i` of packed ones: the earlier of two is in the high nibble.
fn code(packed: &[u8], i: usize) -> usize {
    usize::from(if i.is_multiple_of(2) {
        packed[i / 2] / 16
    } else {
        packed[i / 2] % 16
    })
}

/// None if they are refused.
fn whole(x: &[f32]) -> Option<Vec<WholeChunk>> {
    let mut whole = vec![WholeChunk::default(); x.len() / CHUNK];
    simd::to_whole(x, &mut whole).then_some(whole)
}

fn short(x: &[f32]) -> Option<Vec<ShortChunk>> {
    let mut short = vec![ShortChunk::default(); x.len() / CHUNK];
    simd::to_short(x, &mut short).then_some(short)
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

proptest! {
    #[test]
    fn a_code_is_looked_up_and_scaled(
        values in prop::array::uniform16(number()), packed in prop::array::uniform16(any::<u8>()), scale in number(),
    ) {
        let table = Sixteen::new(values);
        let mut out = [0.5; 32];
        simd::vectorize(#[inline(always)] || table.decode(&packed, scale, &mut out));
        let mut plainly = [0.5; 32];
        table.decode(&packed, scale, &mut plainly); // outside of vector code
        for (i, (got, plain)) in out.into_iter().zip(plainly).enumerate() {
            let want = values[code(&packed, i)] * scale;
            prop_assert!(same(got, want) && same(plain, want), "{}: {} {}", i, got, want);
        }
    }

    /// The sum is exact: whole numbers below 64, so that the largest power of two leaves nothing behind the point.
    #[test]
    fn inner_products_take_each_element_once(
        packed in prop::collection::vec(any::<u8>(), 0..200), n_scales in 0..8_usize, seed in any::<u32>(), length in 0..400_usize,
    ) {
        let table = Sixteen::new(core::array::from_fn(|code| code as f32 - 7.0));
        let x = |row: usize| -> Vec<f32> {
            (0..length).map(|i| ((seed as usize % 1009 * (i + 1) + 31 * row) % 61) as f32 - 30.0).collect()
        };
        let scales: Vec<f32> = (0..n_scales).map(|i| [1.0, 2.0, 0.5, -1.0][i % 4]).collect();
        let rows = [x(0), x(1), x(2)];
        let whole = rows.each_ref().map(|x| whole(x).unwrap());
        let [a, b, c] = &whole;
        let got = simd::vectorize(#[inline(always)] || table.dots(&packed, &scales, [a, b, c]));
        prop_assert_eq!(got[1..2].to_vec(), table.dots(&packed, &scales, [b])); // outside of vector code too
        let n_chunks = n_scales.min(packed.len() / (CHUNK / 2)).min(length / CHUNK);
        for (x, got) in rows.iter().zip(got) {
            let product = |i: usize| x[i] * (code(&packed, i) as f32 - 7.0) * scales[i / CHUNK];
            prop_assert_eq!(got, (0..n_chunks * CHUNK).map(product).sum::<f32>());
        }
    }

    /// The whole numbers by definition, in 128 bits and with remainders instead of shifts; bit for bit, with vector instructions or without.
    #[test]
    fn inner_products_are_what_their_documentation_says(
        values in prop::array::uniform16(-2.0..2.0_f32), packed in prop::collection::vec(any::<u8>(), 96), scales in prop::array::uniform3(-2.0..2.0_f32),
        x in prop::collection::vec(prop_oneof![5 => -2.0..2.0_f32, 1 => -1e9..1e9_f32, 1 => Just(0.0)], 192), tiny in any::<bool>(),
    ) {
        let x: Vec<f32> = x.iter().map(|x| if tiny { x * 1e-12 } else { *x }).collect();
        let table = Sixteen::new(values);
        let [got] = simd::vectorize(#[inline(always)] || table.dots(&packed, &scales, [&whole(&x).unwrap()]));
        let power = |x: &[f32]| {
            let largest = x.iter().fold(0.0_f64, |max, x| max.max(f64::from(x.abs())));
            if largest == 0.0 { 1.0 } else { largest.log2().ceil().exp2() }
        };
        let digits = |x: f32, power: f64| {
            let number = (f64::from(x) / power * 2_f64.powi(27)).round_ties_even() as i128;
            let high = (number + 8192).div_euclid(16384);
            [high, number - high * 16384]
        };
        let of_values = power(&values);
        let mut sums = [0.0_f32; 8];
        for (chunk, scale) in scales.into_iter().enumerate() {
            let x = &x[CHUNK * chunk..][..CHUNK];
            let of_x = power(x);
            for (lane, sum) in sums.iter_mut().enumerate() {
                // Two even elements of each 16, in one half of the chunk, and the odd ones behind them.
                let (mut main, mut cross) = (0, 8192);
                for i in [0, 1, 2, 3, 16, 17, 18, 19] {
                    let i = 32 * (lane / 4) + 4 * (lane % 4) + i;
                    let [v_high, v_low] = digits(values[code(&packed, CHUNK * chunk + i)], of_values);
                    let [x_high, x_low] = digits(x[i], of_x);
                    main += v_high * x_high;
                    cross += v_high * x_low + v_low * x_high;
                }
                let whole = main + i128::div_euclid(cross, 16384);
                *sum += whole as f32 * (scale * (of_x / 8192.0) as f32);
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        let want = (((a + e) + (c + g)) + ((b + f) + (d + h))) * (of_values / 8192.0) as f32;
        prop_assert_eq!(got, want);
    }

    /// The same of whole numbers of one digit.
    #[test]
    fn short_products_are_what_their_documentation_says(
        values in prop::array::uniform16(-2.0..2.0_f32), packed in prop::collection::vec(any::<u8>(), 96), scales in prop::array::uniform3(-2.0..2.0_f32),
        x in prop::collection::vec(prop_oneof![5 => -2.0..2.0_f32, 1 => -1e9..1e9_f32, 1 => Just(0.0)], 192), seed in any::<u64>(),
    ) {
        let table = Sixteen::new(values);
        let other: Vec<f32> = x.iter().rev().map(|x| x * (1 + seed % 9) as f32).collect();
        let (a, b) = (short(&x).unwrap(), short(&other).unwrap());
        let got = simd::vectorize(#[inline(always)] || table.short_dots(&packed, &scales, [&a, &b]));
        prop_assert_eq!(got[1..].to_vec(), table.short_dots(&packed, &scales, [&b])); // outside of vector code too
        let largest = |x: &[f32]| x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let power = 2_f64.powi(f64::from(largest(&values)).log2().ceil() as i32);
        for (x, got) in [x, other].iter().zip(got) {
            let mut sums = [0.0_f32; 8];
            for (chunk, scale) in scales.into_iter().enumerate() {
                let x = &x[CHUNK * chunk..][..CHUNK];
                let (factor, unit) = match largest(x) {
                    0.0 => (0.0, 1.0),
                    largest => (16383.0 / largest, largest / 16383.0),
                };
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let mut whole = 0;
                    for i in [0, 1, 2, 3, 16, 17, 18, 19] {
                        let i = 32 * (lane / 4) + 4 * (lane % 4) + i;
                        let value = f64::from(values[code(&packed, CHUNK * chunk + i)]);
                        whole += (value / power * 16384.0).round_ties_even() as i128 * (x[i] * factor).round_ties_even() as i128;
                    }
                    *sum += whole as f32 * (scale * unit);
                }
            }
            let [a, b, c, d, e, f, g, h] = sums;
            prop_assert_eq!(got, (((a + e) + (c + g)) + ((b + f) + (d + h))) * (power / 16384.0) as f32);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused(mut x in prop::collection::vec(-2.0..2.0_f32, 130), at in 0..130_usize, power in -80..80_i32) {
        prop_assert!(whole(&x).is_some());
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2e18] {
            let before = x[at];
            x[at] = special;
            prop_assert_eq!(whole(&x).is_some(), at >= 128); // beyond the last whole chunk nothing is looked at
            prop_assert_eq!(short(&x).is_some(), at >= 128);
            x[at] = before;
        }
        let one = vec![2_f32.powi(power); 64];
        prop_assert_eq!(whole(&one).is_some(), (-60..=60).contains(&power));
        prop_assert_eq!(short(&one).is_some(), (-60..=60).contains(&power));
    }

    #[test]
    fn narrowing_rounds_to_the_nearest(x in prop::collection::vec(number(), 0..40), longer in 0..3_usize) {
        let n = x.len() + longer;
        let (mut half, mut brain, mut single) = (vec![f16::ONE; n], vec![bf16::ONE; n], vec![1.0_f32; n]);
        simd::narrow(&x, &mut half);
        simd::narrow(&x, &mut brain);
        simd::narrow(&x, &mut single);
        for i in 0..n {
            let want = x.get(i).copied().unwrap_or(1.0); // what is not there is not written
            prop_assert!(same(single[i], want));
            prop_assert!(same(half[i].to_f32(), f16::from_f32_const(want).to_f32()));
            prop_assert!(same(brain[i].to_f32(), bf16::from_f32(want).to_f32()));
        }
    }
}

/// All products as large as they get, with one sign: the sum fits.
#[test]
fn the_largest_short_sum_does_not_wrap() {
    let table = Sixteen::new([1.0; 16]);
    for x in [3.0, -3.0] {
        let short = short(&[x; 64]).unwrap();
        let [product] = table.short_dots(&[0; 32], &[1.0], [&short]);
        assert!((product - 64.0 * x).abs() < 1e-4, "{product}");
    }
}
