//! KERPLE as the paper writes it.

use ndarray::{Array3, ArrayRef1};

use crate::kerple::KerpleKernel;

/// `bias[h, i, j] = -r1 ln(1 + r2 |m - n|)` or `-r1 |m - n|^r2`, query `m = i + kv_seq - seq`, key `n = j`.
///
/// Nothing is checked.
///
/// # Shapes
///
/// - `r1`, `r2`: `[heads]`
/// - returns: `[heads, seq, kv_seq]`
///
/// Source: Chi et al., KERPLE, arXiv:2205.09921v2, the logarithmic and the power variant.
#[must_use]
// ANCHOR: bias
pub fn bias(
    r1: &ArrayRef1<f64>,
    r2: &ArrayRef1<f64>,
    seq: usize,
    kv_seq: usize,
    kernel: KerpleKernel,
) -> Array3<f64> {
    Array3::from_shape_fn((r1.len(), seq, kv_seq), |(h, i, j)| {
        let (m, n) = ((i + kv_seq) as f64 - seq as f64, j as f64);
        let distance = (m - n).abs();
        match kernel {
            KerpleKernel::Logarithmic => -r1[h] * (1.0 + r2[h] * distance).ln(),
            KerpleKernel::Power if distance == 0.0 => 0.0,
            KerpleKernel::Power => -r1[h] * (r2[h] * distance.ln()).exp(),
        }
    })
}
// ANCHOR_END: bias
