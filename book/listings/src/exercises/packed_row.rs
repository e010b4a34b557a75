//! Exercise of the page on products: a row of packed weights times a vector.

// ANCHOR: exercise
/// The product of a vector and a row of packed weights, which are never written out.
///
/// Of two codes in a byte the earlier one is in the high half. `values[code]` times the scale of its block, which has `block` weights, is a
/// weight.
#[must_use]
pub fn packed_row(
    x: &[f32],
    packed: &[u8],
    scales: &[f32],
    values: &[f32; 16],
    block: usize,
) -> f32 {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let mut sum = 0.0;
    for (b, scale) in scales.iter().enumerate() {
        let first = b * block;
        let mut of_block = 0.0;
        for (i, x) in (first..x.len().min(first + block)).zip(&x[first..]) {
            let byte = packed[i / 2];
            let code = if i % 2 == 0 { byte >> 4 } else { byte & 15 };
            of_block += x * values[usize::from(code)];
        }
        sum += scale * of_block; // once for all of the block
    }
    sum
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_quant::four_bit::{self, FourBitCode, FourBitConfig, Scales};
    use llm_quant::matmul;
    use ndarray::ArrayView2;

    use super::packed_row;

    // ANCHOR: tests
    #[test]
    fn halves_of_a_byte_in_order() {
        let mut values = [0.0; 16];
        (values[1], values[2]) = (10.0, 3.0);
        assert_eq!(
            packed_row(&[1.0, 5.0, 7.0], &[0x12, 0x10], &[2.0], &values, 32),
            190.0
        );
        assert_eq!(
            packed_row(&[1.0, 5.0, 7.0], &[0x12, 0x10], &[2.0, 1.0], &values, 2),
            120.0
        );
    }

    #[test]
    fn it_is_the_product_of_the_library() {
        let row = |key: f32| -> Vec<f32> { (0..100).map(|i| (i as f32 * key).sin()).collect() };
        let (x, w) = (row(0.7), row(1.1));
        let w = ArrayView2::from_shape([1, 100], &w).unwrap().to_owned();
        let weights = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64)).unwrap();
        let Scales::Plain(scales) = weights.scales() else {
            panic!("nobody has quantized the scales");
        };
        let got = packed_row(&x, weights.packed(), scales, &FourBitCode::Nf4.values(), 64);
        let x = ArrayView2::from_shape([1, 100], &x).unwrap();
        assert!((got - matmul::forward(&x, &weights).unwrap()[[0, 0]]).abs() < 1e-5);
    }
    // ANCHOR_END: tests
}
