//! Integers with a scale and a zero point.

use crate::integer::{IntegerBits, IntegerConfig, IntegerScheme};

/// Codes, scale and zero point of each block of `x`, all of whose numbers are finite.
///
/// Jacob et al. 2018, arXiv:1712.05877v1, eq. 1. Scales are rounded to `f32`, and so are the reciprocal of a scale and each product with it: codes are decided by
/// them.
///
/// # Precision
///
/// Scales, reciprocals and products in `f32`, as the codes depend on them.
///
/// # Example
///
/// ```
/// use llm_quant::integer::{IntegerBits, IntegerConfig, IntegerScheme};
/// use llm_quant::reference::integer;
///
/// let config = IntegerConfig::new(IntegerBits::Four, IntegerScheme::Affine, 4);
/// let blocks = integer::quantize(&[0.0, 1.0, 2.0, 15.0], &config);
/// assert_eq!(blocks, [(vec![0, 1, 2, 15], 1.0, 0)]);
/// ```
#[must_use]
pub fn quantize(x: &[f32], config: &IntegerConfig) -> Vec<(Vec<u8>, f32, u8)> {
    let largest = match config.bits {
        IntegerBits::Four => 15,
        IntegerBits::Eight => 255_u8,
    };
    let is_affine = config.scheme == IntegerScheme::Affine;
    x.chunks(config.block)
        .map(|x| {
            let low = x.iter().copied().fold(0.0, f32::min);
            let high = x.iter().copied().fold(0.0, f32::max);
            let n_steps = f32::from(if is_affine { largest } else { largest / 2 });
            let width = if is_affine {
                high - low
            } else {
                high.max(-low)
            };
            let mut scale = width / n_steps;
            if scale.is_infinite() {
                scale = high / n_steps - low / n_steps;
            }
            let steps = |x: f32| match 1.0 / scale {
                factor if factor.is_finite() => even(f64::from(x * factor)),
                _ if scale > 0.0 => even(f64::from(x / scale)),
                _ => 0,
            };
            let zero = match (is_affine, scale > 0.0) {
                (true, true) => even(f64::from(-low / scale)).min(largest.into()),
                (true, false) => 0,
                (false, _) => i64::from(largest / 2) + 1,
            };
            let lowest = i64::from(!is_affine);
            let code = |&x: &f32| (steps(x) + zero).clamp(lowest, largest.into()) as u8;
            (x.iter().map(code).collect(), scale, zero as u8)
        })
        .collect()
}

/// The nearest integer, the even one of two.
fn even(x: f64) -> i64 {
    let nearest = (x + 0.5).floor();
    let is_half = nearest - x == 0.5;
    (if is_half && nearest % 2.0 != 0.0 {
        nearest - 1.0
    } else {
        nearest
    }) as i64
}

/// `(code - zero) · scale`, exact.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// let back = llm_quant::reference::integer::dequantize(&[(vec![0, 3], 0.5, 1)]);
/// assert_eq!(back, [-0.5, 1.0]);
/// ```
#[must_use]
pub fn dequantize(blocks: &[(Vec<u8>, f32, u8)]) -> Vec<f64> {
    let value =
        |code: u8, scale: f32, zero: u8| (f64::from(code) - f64::from(zero)) * f64::from(scale);
    { blocks.iter() }
        .flat_map(|(codes, scale, zero)| codes.iter().map(move |&code| value(code, *scale, *zero)))
        .collect()
}
