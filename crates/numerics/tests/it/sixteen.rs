//! Codes of four bits: looked up and multiplied.

use llm_numerics::half::{bf16, f16};
use llm_numerics::simd::{self, CHUNK, Sixteen};
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

    /// The sum is exact: whole numbers.
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
        let arranged = rows.clone().map(|x| {
            let mut arranged = vec![f32::NAN; x.len()];
            simd::arrange(&x, &mut arranged);
            arranged
        });
        let [a, b, c] = &arranged;
        let got = simd::vectorize(#[inline(always)] || table.dots(&packed, &scales, [a, b, c]));
        prop_assert_eq!(got[1..2].to_vec(), table.dots(&packed, &scales, [b]));
        let n_chunks = n_scales.min(packed.len() / (CHUNK / 2)).min(length / CHUNK);
        for (x, got) in rows.iter().zip(got) {
            let product = |i: usize| x[i] * (code(&packed, i) as f32 - 7.0) * scales[i / CHUNK];
            prop_assert_eq!(got, (0..n_chunks * CHUNK).map(product).sum::<f32>());
        }
    }

    /// Numbers of any size, in the order that is documented; bit for bit, with vector instructions or without.
    #[test]
    fn inner_products_are_summed_in_one_order(
        values in prop::array::uniform16(-2.0..2.0_f32), packed in prop::collection::vec(any::<u8>(), 96), scales in prop::array::uniform3(-2.0..2.0_f32),
        x in prop::collection::vec(number(), 192),
    ) {
        let table = Sixteen::new(values);
        let mut arranged = vec![0.0; 192];
        simd::arrange(&x, &mut arranged);
        let [got] = simd::vectorize(#[inline(always)] || table.dots(&packed, &scales, [&arranged]));
        let mut sums = [0.0_f32; 8];
        for (chunk, scale) in scales.into_iter().enumerate() {
            for (lane, sum) in sums.iter_mut().enumerate() {
                // Four even elements, 8 apart, then the odd ones behind them.
                let four = |odd: usize| {
                    let p = |k: usize| {
                        let i = CHUNK * chunk + 32 * (lane / 4) + 8 * k + 2 * (lane % 4) + odd;
                        x[i] * values[code(&packed, i)]
                    };
                    (p(0) + p(1)) + (p(2) + p(3))
                };
                *sum += (four(0) + four(1)) * scale;
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        let want = ((a + e) + (c + g)) + ((b + f) + (d + h));
        prop_assert!(same(got, want), "{} {}", got, want);
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
