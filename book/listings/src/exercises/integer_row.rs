//! Exercise of the page on eight bits: a product of integers.

// ANCHOR: exercise
/// The product of a row of inputs and a row of weights, both in eight bits.
///
/// Each row becomes whole numbers from -127 to 127 with its largest magnitude as scale. The sum of their products is whole; what it is
/// multiplied by in the end gives the scales back. No row is all zeros.
#[must_use]
pub fn integer_row(x: &[f64], weights: &[f64]) -> f64 {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let quantize = |row: &[f64]| -> (Vec<i64>, f64) {
        let scale = row.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let codes = row
            .iter()
            .map(|x| (127.0 * x / scale).round_ties_even() as i64);
        (codes.collect(), scale)
    };
    let (x, x_scale) = quantize(x);
    let (weights, scale) = quantize(weights);
    let sum: i64 = x.iter().zip(&weights).map(|(a, b)| a * b).sum();
    sum as f64 * x_scale * scale / (127.0 * 127.0)
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_quant::four_bit::NonFinite;
    use llm_quant::int8_matmul::{self, EXACT_FACTOR, Int8MatmulConfig};
    use llm_quant::vector_wise;
    use ndarray::ArrayView2;

    use super::integer_row;

    // ANCHOR: tests
    #[test]
    fn whole_numbers_stay_whole() {
        assert!(
            (integer_row(&[127.0, -2.0], &[254.0, 10.0]) - (127.0 * 254.0 - 20.0)).abs() < 1e-9
        );
    }

    #[test]
    fn it_is_the_product_of_the_library() {
        let row = |key: f32| -> Vec<f32> { (0..100).map(|i| (i as f32 * key).sin()).collect() };
        let (x, w) = (row(0.7), row(1.1));
        let matrix = |row: &[f32]| ArrayView2::from_shape([1, 100], row).unwrap().to_owned();
        let rows = vector_wise::quantize(&matrix(&w), NonFinite::Refuse).unwrap();
        let config = Int8MatmulConfig::new(0.0, EXACT_FACTOR);
        let want = int8_matmul::forward(&matrix(&x), &rows, &config).unwrap();
        let wide = |row: &[f32]| row.iter().map(|&x| x.into()).collect::<Vec<f64>>();
        assert!((integer_row(&wide(&x), &wide(&w)) - f64::from(want[[0, 0]])).abs() < 1e-4);
    }
    // ANCHOR_END: tests
}
