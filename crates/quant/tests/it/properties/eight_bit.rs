//! The dynamic map.

use llm_quant::eight_bit::{self, EightBitConfig, EightBitSearch};
use llm_quant::{dynamic_map, reference};
use ndarray::arr1;
use proptest::prelude::*;

use super::strategies::{block, numbers};

proptest! {
    #[test]
    fn codes_and_numbers_are_those_of_the_reference(x in numbers(), block in block()) {
        let config = EightBitConfig::new(EightBitSearch::Nearest, block);
        let quantized = eight_bit::quantize(&arr1(&x), &config).unwrap();
        let map = dynamic_map::signed8();
        let (codes, scales) = reference::blocks::quantize(&x, &map, block);
        prop_assert_eq!(quantized.codes(), &codes[..]);
        prop_assert_eq!(quantized.scales(), &scales[..]);
        let want = reference::blocks::dequantize(&codes, &scales, &map, block);
        let want: Vec<f32> = want.iter().map(|&x| x as f32).collect();
        let got: Vec<f32> = eight_bit::dequantize(&quantized).unwrap().into_iter().collect();
        prop_assert_eq!(got, want);
    }

    /// The table of the compiled code looks at cells 2 / 65535 wide, so it is off by at most one cell more.
    #[test]
    fn the_coarse_table_is_off_by_a_cell_at_most(x in numbers(), block in block()) {
        let back = |search| -> Vec<f32> {
            let quantized = eight_bit::quantize(&arr1(&x), &EightBitConfig::new(search, block)).unwrap();
            eight_bit::dequantize(&quantized).unwrap().into_iter().collect()
        };
        let (exact, coarse) = (back(EightBitSearch::Nearest), back(EightBitSearch::BitsandbytesCpu));
        for ((block, exact), coarse) in x.chunks(block).zip(exact.chunks(block)).zip(coarse.chunks(block)) {
            let scale = block.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
            for ((x, exact), coarse) in block.iter().zip(exact).zip(coarse) {
                let [exact, coarse] = [exact, coarse].map(|got| (x - got).abs());
                prop_assert!(coarse <= exact + scale * 3.2e-5);
            }
        }
    }

    #[test]
    fn zeros_stay_zeros(x in numbers(), block in block()) {
        let config = EightBitConfig::new(EightBitSearch::Nearest, block);
        let got = eight_bit::dequantize::<f32>(&eight_bit::quantize(&arr1(&x), &config).unwrap()).unwrap();
        for (x, got) in x.iter().zip(got) {
            prop_assert!(*x != 0.0 || got == 0.0);
        }
    }
}

#[test]
fn each_value_of_the_map_and_each_bound_finds_its_code() {
    // 1 makes the scale 1 in each block of 4096.
    let map = dynamic_map::signed8();
    let mut x = map.to_vec();
    for pair in map.windows(2) {
        let bound = (pair[0] + pair[1]) / 2.0;
        x.extend([bound, bound.next_up(), bound.next_down()]);
    }
    assert!(x.len() < 4096);
    x.resize(4096, 1.0);
    let config = EightBitConfig::new(EightBitSearch::Nearest, 4096);
    let quantized = eight_bit::quantize(&arr1(&x), &config).unwrap();
    for (code, got) in quantized.codes()[..256].iter().enumerate() {
        assert_eq!(usize::from(*got), code);
    }
    for (code, got) in quantized.codes()[256..256 + 3 * 255].chunks(3).enumerate() {
        // At the bound and below it the lower code, above it the next.
        assert_eq!(
            got.iter().map(|&got| usize::from(got)).collect::<Vec<_>>(),
            [code, code + 1, code]
        );
    }
}
