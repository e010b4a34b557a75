//! Rows in eight bits, and products with them.

use llm_quant::four_bit::NonFinite;
use llm_quant::int8_matmul::{self, EXACT_FACTOR, Int8MatmulConfig};
use llm_quant::reference;
use llm_quant::vector_wise::{self, InputConfig, VectorWise};
use ndarray::{Array1, Array2, s};
use proptest::prelude::*;

use super::strategies::number;

/// Some rows; zero-length axes too.
fn matrix() -> impl Strategy<Value = Array2<f32>> {
    (0..6_usize, 0..70_usize).prop_flat_map(|(rows, columns)| {
        prop::collection::vec(number(), rows * columns)
            .prop_map(move |x| Array2::from_shape_vec([rows, columns], x).unwrap())
    })
}

/// None, or one that some ordinary numbers reach.
fn threshold() -> impl Strategy<Value = f32> {
    prop_oneof![Just(0.0), 0.5..4.0_f32, Just(f32::MIN_POSITIVE), Just(1e30)]
}

fn list(x: &Array2<f32>) -> Vec<f32> {
    x.iter().copied().collect()
}

proptest! {
    #[test]
    // ANCHOR: outliers
    fn codes_scales_and_outliers_are_those_of_the_reference(x in matrix(), threshold in threshold()) {
        let split = vector_wise::quantize_inputs(&x, &InputConfig::new(threshold)).unwrap();
        let n = x.ncols().max(1);
        let (codes, scales, outliers) = reference::vector_wise::quantize(&list(&x), n, threshold);
        if x.ncols() > 0 {
            prop_assert_eq!(split.rows.scales(), &scales[..]);
            prop_assert_eq!(split.rows.codes().iter().copied().collect::<Vec<_>>(), codes);
            prop_assert_eq!(split.outliers, if x.is_empty() { vec![] } else { outliers });
        }
        prop_assert_eq!(split.rows.shape(), <[usize; 2]>::from(x.dim()));
    }
    // ANCHOR_END: outliers

    /// A step is a 127th of the largest magnitude of the row; four roundings are relative to numbers up to that.
    #[test]
    fn the_error_is_at_most_half_a_step(x in matrix()) {
        let rows = vector_wise::quantize(&x, NonFinite::Refuse).unwrap();
        let back = vector_wise::dequantize::<f32>(&rows).unwrap();
        for ((i, j), &x) in x.indexed_iter() {
            let scale = f64::from(rows.scales()[i]);
            // Below the normal numbers a rounding is absolute.
            let allowed = scale * (0.5 / 127.0 + 3e-7) + 3e-45;
            let error = (f64::from(x) - f64::from(back[[i, j]])).abs();
            prop_assert!(error <= allowed, "{x} became {}, scale {scale}", back[[i, j]]);
        }
    }

    #[test]
    fn zeros_stay_zeros_and_codes_stay_codes(x in matrix()) {
        let rows = vector_wise::quantize(&x, NonFinite::Refuse).unwrap();
        let back = vector_wise::dequantize::<f32>(&rows).unwrap();
        for (x, back) in x.iter().zip(&back) {
            prop_assert!(*x != 0.0 || *back == 0.0);
        }
        prop_assume!(rows.scales().iter().all(|&scale| scale == 0.0 || scale > 1e-30));
        let again = vector_wise::quantize(&back, NonFinite::Refuse).unwrap();
        prop_assert_eq!(again.codes(), rows.codes());
    }

    #[test]
    fn a_power_of_two_changes_the_scales_alone(x in matrix(), power in -20..=10_i32) {
        let before = vector_wise::quantize(&x, NonFinite::Refuse).unwrap();
        prop_assume!(before.scales().iter().all(|&scale| scale == 0.0 || scale > 1e-27));
        let factor = 2_f32.powi(power);
        let after = vector_wise::quantize(&x.mapv(|x| x * factor), NonFinite::Refuse).unwrap();
        prop_assert_eq!(before.codes(), after.codes());
        let want: Vec<f32> = before.scales().iter().map(|scale| scale * factor).collect();
        prop_assert_eq!(after.scales(), &want[..]);
    }

    #[test]
    fn strides_do_not_matter(seed in any::<u64>(), rows in 1..9_usize, columns in 1..40_usize) {
        let wide = noise([2 * columns, 3 * rows], seed);
        let view = wide.slice(s![..;-2, ..;3]).reversed_axes();
        let copied = view.as_standard_layout().into_owned();
        let want = vector_wise::quantize_inputs(&copied, &InputConfig::new(0.9)).unwrap();
        prop_assert_eq!(&vector_wise::quantize_inputs(&view, &InputConfig::new(0.9)).unwrap(), &want);
        let config = Int8MatmulConfig::new(0.9, EXACT_FACTOR);
        let weights = vector_wise::quantize(&noise([5, columns], seed ^ 1), NonFinite::Refuse).unwrap();
        let strided = int8_matmul::forward(&view, &weights, &config).unwrap();
        prop_assert_eq!(strided, int8_matmul::forward(&copied, &weights, &config).unwrap());
        // Codes with strides, as of another layout.
        let codes = want.rows.codes().t().as_standard_layout().into_owned();
        let other = VectorWise::from_parts(codes.reversed_axes(), want.rows.scales().to_vec()).unwrap();
        prop_assert_eq!(&other, &want.rows);
        prop_assert_eq!(vector_wise::dequantize::<f32>(&other).unwrap(), vector_wise::dequantize::<f32>(&want.rows).unwrap());
    }

    /// The product of the dequantized parts in `f64`, with outliers as they are; few rows and many, zero-length axes.
    #[test]
    fn products_are_those_of_the_dequantized_parts(
        seq in 0..9_usize, d_out in 0..40_usize, d_in in 0..90_usize, seed in any::<u64>(), threshold in threshold(),
    ) {
        check(seq, d_out, d_in, seed, threshold)?;
    }

    /// Where all inputs that are not 0 are outliers, no input is rounded.
    #[test]
    fn outlier_columns_are_exact(seq in 1..6_usize, d_out in 1..9_usize, d_in in 1..40_usize, seed in any::<u64>()) {
        // Multiples of 1/4 from 6 to 60 in each third column, and nothing beside; weights are multiples of 1 with a 127 in each row.
        let x = noise([seq, d_in], seed).indexed_iter().map(|((_, j), x)| {
            if j % 3 == 0 { 6.0 + (x.abs() * 216.0).floor() / 4.0 } else { 0.0 }
        }).collect();
        let x = Array2::from_shape_vec([seq, d_in], x).unwrap();
        let mut w = noise([d_out, d_in], seed ^ 1).mapv(|x| (x * 127.0).round());
        w.column_mut(0).fill(127.0);
        let weights = vector_wise::quantize(&w, NonFinite::Refuse).unwrap();
        prop_assert_eq!(weights.codes().mapv(f32::from), w.clone());
        let config = Int8MatmulConfig::new(6.0, EXACT_FACTOR);
        let y = int8_matmul::forward(&x, &weights, &config).unwrap();
        let exact = x.mapv(f64::from).dot(&w.t().mapv(f64::from));
        for (y, exact) in y.iter().zip(&exact) {
            // Weights come back with two roundings; sums of d_in products of up to 60 · 127.
            let allowed = 60.0 * 127.0 * (d_in * (d_in + 3)) as f64 * f64::from(f32::EPSILON) / 2.0;
            prop_assert!((f64::from(*y) - exact).abs() <= allowed, "{} {}", y, exact);
        }
    }
}

/// Numbers from -1 to 1 that look random.
fn noise(shape: [usize; 2], seed: u64) -> Array2<f32> {
    Array2::from_shape_fn(shape, |(i, j)| {
        let mixed = (seed ^ (i * 4099 + j) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as f32 / 8_388_608.0 - 1.0
    })
}

fn check(
    seq: usize,
    d_out: usize,
    d_in: usize,
    seed: u64,
    threshold: f32,
) -> Result<(), TestCaseError> {
    let x = noise([seq, d_in], seed) * 4.0;
    let weights =
        vector_wise::quantize(&noise([d_out, d_in], seed ^ 1), NonFinite::Refuse).unwrap();
    let config = Int8MatmulConfig::new(threshold, EXACT_FACTOR);
    let y = int8_matmul::forward(&x, &weights, &config).unwrap();
    prop_assert_eq!(y.dim(), (seq, d_out));
    let codes: Vec<i8> = weights.codes().iter().copied().collect();
    if d_in > 0 {
        let parts = (&codes[..], weights.scales());
        let want = reference::vector_wise::forward(&list(&x), parts, d_in, threshold);
        for (got, want) in y.iter().zip(want) {
            // Inputs up to 4, weights up to 1. Five roundings of the integer part, or d_in + 3 of the sum of outliers.
            let half = f64::from(f32::EPSILON) / 2.0;
            let allowed = 4.0 * d_in as f64 * (d_in as f64 + 8.0) * half;
            prop_assert!((f64::from(*got) - want).abs() <= allowed, "{got} {want}");
        }
    }
    let dout = noise([seq, d_out], seed ^ 2);
    let dx = int8_matmul::backward(&dout, &weights).unwrap();
    prop_assert_eq!(dx.dim(), (seq, d_in));
    if d_out > 0 && d_in > 0 {
        let w = reference::vector_wise::dequantize(&codes, weights.scales(), d_in);
        let wide: Vec<f64> = dout.iter().map(|&x| x.into()).collect();
        let want = reference::matmul::backward(&wide, &w, d_in, d_out);
        for (got, want) in dx.iter().zip(want) {
            let allowed = d_out as f64 * (d_out as f64 + 3.0) * f64::from(f32::EPSILON) / 2.0;
            prop_assert!((f64::from(*got) - want).abs() <= allowed, "{got} {want}");
        }
    }
    Ok(())
}

/// Several tasks and several tiles in each direction, also where codes and scales are made.
#[test]
fn large_products_are_those_of_the_reference() {
    for (seq, d_out, d_in, threshold) in [
        (1, 700, 1501, 0.0),
        (33, 301, 1203, 3.99),
        (70, 3, 2001, 3.0),
        (6, 20_001, 3, 3.0),
    ] {
        check(seq, d_out, d_in, 5, threshold).unwrap();
    }
}

/// Both rows are all 127s: the sum is 127² a column, beyond 32 bits.
#[test]
fn sums_beyond_32_bits_are_exact() {
    let d_in = 300_000;
    let ones = Array2::<f32>::ones([1, d_in]);
    let weights = vector_wise::quantize(&ones, NonFinite::Refuse).unwrap();
    let config = Int8MatmulConfig::new(0.0, EXACT_FACTOR);
    let y = int8_matmul::forward(&ones, &weights, &config).unwrap();
    assert!((f64::from(y[[0, 0]]) / d_in as f64 - 1.0).abs() < 4.0 * f64::from(f32::EPSILON));
}

/// Straight through: the gradient is that of the product with weights that came back.
#[test]
fn the_gradient_is_that_of_the_product_without_rounding_of_inputs() {
    let (x, dout) = (noise([3, 20], 1), noise([3, 7], 2));
    let weights = vector_wise::quantize(&noise([7, 20], 3), NonFinite::Refuse).unwrap();
    let dx = int8_matmul::backward(&dout, &weights).unwrap();
    let w = vector_wise::dequantize::<f32>(&weights)
        .unwrap()
        .mapv(f64::from);
    let loss = |x: &Array2<f64>| (x.dot(&w.t()) * dout.mapv(f64::from)).sum();
    let x = x.mapv(f64::from);
    for ((i, j), dx) in dx.indexed_iter() {
        let (mut up, mut down) = (x.clone(), x.clone());
        up[[i, j]] += 0.5;
        down[[i, j]] -= 0.5;
        // The loss is linear: the difference is exact but for rounding.
        assert!((loss(&up) - loss(&down) - f64::from(*dx)).abs() < 1e-5);
    }
}

#[test]
fn rows_below_the_normal_numbers_are_divided() {
    let x = Array1::from(vec![1e-40_f32, -5e-41, 0.0]).insert_axis(ndarray::Axis(0));
    let rows = vector_wise::quantize(&x, NonFinite::Refuse).unwrap();
    // 71362 and 35681 units of the smallest number: 63.5 is halfway, and 64 is even.
    assert_eq!(rows.codes(), ndarray::array![[127, -64, 0]]);
}
