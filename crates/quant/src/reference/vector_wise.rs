//! Rows in eight bits, with columns of outliers, and their product.

/// Codes, scale of each row and columns with outliers of the rows `x`, each of `n` elements.
///
/// `code = round(127 x / max |x|)`, halves to even, with `1 / max`, 127 times it and the product with that rounded to `f32`, as in bitsandbytes 0.50.2. Elements from a
/// positive threshold on are outliers: they count as 0, and all of their column gets code 0. Dettmers et al. 2022, arXiv:2208.07339v2 §3.
///
/// # Precision
///
/// Quotients are rounded to `f32`, as the codes depend on it.
///
/// # Example
///
/// ```
/// use llm_quant::reference::vector_wise;
///
/// let (codes, scales, outliers) = vector_wise::quantize(&[1.0, -7.0, 0.5, 2.0, 0.1, -1.0], 3, 6.0);
/// assert_eq!((scales, outliers), (vec![1.0, 2.0], vec![1]));
/// assert_eq!(codes, [127, 0, 64, 127, 0, -64]);
/// ```
#[must_use]
// ANCHOR: quantize
pub fn quantize(x: &[f32], n: usize, threshold: f32) -> (Vec<i8>, Vec<f32>, Vec<usize>) {
    let is_outlier = |x: f32| threshold > 0.0 && x.abs() >= threshold;
    let outliers: Vec<usize> = (0..n)
        .filter(|&j| x.chunks(n).any(|row| is_outlier(row[j])))
        .collect();
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for row in x.chunks(n) {
        let inside = |&x: &f32| if is_outlier(x) { 0.0 } else { x };
        let scale = row
            .iter()
            .map(inside)
            .fold(0.0, |max: f32, x| max.max(x.abs()));
        scales.push(scale);
        for (j, x) in row.iter().enumerate() {
            let quotient = match 1.0 / scale * 127.0 {
                factor if factor.is_finite() => inside(x) * factor,
                _ if scale > 0.0 => inside(x) / scale * 127.0,
                _ => 0.0,
            };
            let code = half_to_even(f64::from(quotient));
            codes.push(if outliers.contains(&j) { 0 } else { code });
        }
    }
    (codes, scales, outliers)
}
// ANCHOR_END: quantize

fn half_to_even(x: f64) -> i8 {
    let low = x.floor();
    let is_up = match x - low {
        rest if rest > 0.5 => true,
        rest if rest < 0.5 => false,
        _ => low % 2.0 != 0.0,
    };
    (low + f64::from(u8::from(is_up))) as i8
}

/// `x_ij = code_ij · scale_i / 127`.
///
/// # Precision
///
/// `f64` throughout.
///
/// # Example
///
/// ```
/// assert_eq!(llm_quant::reference::vector_wise::dequantize(&[127, 0], &[2.0, 1.0], 1), [2.0, 0.0]);
/// ```
#[must_use]
pub fn dequantize(codes: &[i8], scales: &[f32], n: usize) -> Vec<f64> {
    let value = |(i, &code): (usize, &i8)| f64::from(code) * f64::from(scales[i / n]) / 127.0;
    codes.iter().enumerate().map(value).collect()
}

/// The product of rows `x` with weights `(codes, scales)`, each of `n` elements: that of the parts that were dequantized, inputs of outlier columns as they
/// are.
///
/// # Precision
///
/// `f64` throughout, but for the codes of the inputs.
///
/// # Example
///
/// ```
/// use llm_quant::reference::vector_wise;
///
/// // One row, of which the second number is an outlier, and one row of weights.
/// let y = vector_wise::forward(&[2.0, 8.0], (&[127, 127], &[1.0]), 2, 6.0);
/// assert!((y[0] - 10.0).abs() < 1e-12);
/// ```
#[must_use]
// ANCHOR: forward
pub fn forward(x: &[f32], weights: (&[i8], &[f32]), n: usize, threshold: f32) -> Vec<f64> {
    let (codes, scales, outliers) = quantize(x, n, threshold);
    let mut inputs = dequantize(&codes, &scales, n);
    for (row, exact) in inputs.chunks_mut(n).zip(x.chunks(n)) {
        for &j in &outliers {
            row[j] = f64::from(exact[j]);
        }
    }
    let w = dequantize(weights.0, weights.1, n);
    super::matmul::forward(&inputs, &w, n, weights.1.len())
}
// ANCHOR_END: forward
