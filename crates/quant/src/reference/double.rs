//! Double quantization, with the values of the 8-bit code given.

use super::blocks;

/// Codes, scales of the scales, and offset: the mean in `f64`, rounded.
#[must_use]
pub fn quantize(scales: &[f32], values: &[f32]) -> (Vec<u8>, Vec<f32>, f32) {
    let sum: f64 = scales.iter().map(|&x| f64::from(x)).sum();
    let offset = (sum / scales.len().max(1) as f64) as f32;
    let (codes, absmax) = quantize_with_offset(scales, offset, values);
    (codes, absmax, offset)
}

// ANCHOR: double
/// Codes and scales of the scales less an offset, in blocks of 256.
#[must_use]
pub fn quantize_with_offset(scales: &[f32], offset: f32, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let moved: Vec<f32> = scales.iter().map(|x| x - offset).collect();
    blocks::quantize(&moved, values, 256)
}

/// `value(code_i) · absmax_(i / 256) + offset`, each step rounded to `f32`.
#[must_use]
pub fn dequantize(codes: &[u8], absmax: &[f32], offset: f32, values: &[f32]) -> Vec<f32> {
    let scale = |(i, &code): (usize, &u8)| values[usize::from(code)] * absmax[i / 256] + offset;
    codes.iter().enumerate().map(scale).collect()
}
// ANCHOR_END: double
