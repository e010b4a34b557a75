//! Quantization in blocks by a search through all values.

/// Codes and scales of the numbers `x` in blocks, with the value of each code in `values`.
///
/// `scale = max |x|`; the code is that of the value nearest to `x / scale`, the lower of two. Of equal values, numbers above get the one
/// listed later. Dettmers et al. 2023, arXiv:2305.14314v1, eq. 1.
///
/// The quotient is rounded as bitsandbytes 0.50.2 does on the CPU: by a reciprocal in full blocks, by a division in a shorter last
/// one, both with a scale of at least 1e-38, which is also what the shorter one stores.
///
/// # Precision
///
/// Quotients are rounded to `f32`, as the codes depend on it.
///
/// # Example
///
/// ```
/// use llm_quant::reference::blocks;
///
/// let (codes, scales) = blocks::quantize(&[2.0, -2.0, 0.4], &[-1.0, 0.0, 1.0], 64);
/// assert_eq!((codes, scales), (vec![2, 0, 1], vec![2.0]));
/// ```
#[must_use]
// ANCHOR: quantize
pub fn quantize(x: &[f32], values: &[f32], block: usize) -> (Vec<u8>, Vec<f32>) {
    let mut sorted: Vec<(f32, u8)> = values.iter().copied().zip(0..=255).collect();
    sorted.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(core::cmp::Ordering::Equal));
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for block_of_x in x.chunks(block) {
        let largest = block_of_x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let at_least = largest.max(1e-38);
        let is_full = block_of_x.len() == block;
        scales.push(if is_full { largest } else { at_least });
        for &x in block_of_x {
            let quotient = if is_full {
                x * (1.0 / at_least)
            } else {
                x / at_least
            };
            let mut nearest = sorted[0];
            for &next in &sorted[1..] {
                // Beyond the midpoint to the next value the next value is nearer.
                if quotient.clamp(-1.0, 1.0) > (nearest.0 + next.0) / 2.0 {
                    nearest = next;
                } else {
                    break;
                }
            }
            codes.push(nearest.1);
        }
    }
    (codes, scales)
}
// ANCHOR_END: quantize

/// Four-bit codes as bytes: the earlier of two in the high nibble; an odd one at the end is followed by `padding`.
///
/// # Example
///
/// ```
/// assert_eq!(llm_quant::reference::blocks::pack(&[1, 2, 3], 7), [0x12, 0x37]);
/// ```
#[must_use]
pub fn pack(codes: &[u8], padding: u8) -> Vec<u8> {
    codes
        .chunks(2)
        .map(|pair| pair[0] * 16 + pair.get(1).copied().unwrap_or(padding))
        .collect()
}

/// The first `len` four-bit codes of bytes.
///
/// # Example
///
/// ```
/// assert_eq!(llm_quant::reference::blocks::unpack(&[0x12, 0x37], 3), [1, 2, 3]);
/// ```
#[must_use]
pub fn unpack(packed: &[u8], len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| match i % 2 {
            0 => packed[i / 2] / 16,
            _ => packed[i / 2] % 16,
        })
        .collect()
}

/// `x_i = value(code_i) · scale_b`, in `f64`, exact.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// let back = llm_quant::reference::blocks::dequantize(&[2, 0, 1], &[2.0], &[-1.0, 0.0, 1.0], 64);
/// assert_eq!(back, [2.0, -2.0, 0.0]);
/// ```
#[must_use]
pub fn dequantize(codes: &[u8], scales: &[f32], values: &[f32], block: usize) -> Vec<f64> {
    let value = |(i, &code): (usize, &u8)| {
        f64::from(values[usize::from(code)]) * f64::from(scales[i / block])
    };
    codes.iter().enumerate().map(value).collect()
}
