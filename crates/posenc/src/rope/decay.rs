//! How scores fade with distance.

use ndarray::{Array1, ArrayRef1, Axis};

use super::table::{check_inv_freq, check_positions};
use crate::{PosencError, memory};

/// How scores fade with the distance of query and key: the mean length of partial sums of their rotations.
///
/// With `n` planes and `i'` the imaginary unit:
///
/// ```text
/// S_j             = Σ_{i < j} exp(i' distance inv_freq_i)
/// decay(distance) = 1/n Σ_{j < n} |S_j|
/// ```
///
/// It is the curve of the introduction to RoPE by its author, there for 64 frequencies of base 10 000: its sums are
/// `S_0 = 0` to `S_{n-1}`, so the last frequency does not count. That makes it a little less than a bound. With `h_i`
/// the product of query and conjugate key in plane `i`, both as complex numbers, and `h_n = 0`, Abel's summation gives
///
/// ```text
/// |score| <= (n decay(distance) + |S_n|) max_{i < n} |h_{i+1} - h_i|
/// ```
///
/// which is RoFormer's bound, of `S_1` to `S_n`.
///
/// # Shapes
///
/// - `inv_freq`: `[rotary_dim / 2]`
/// - `distances`: `[n]`, in tokens, any order
/// - returns: `[n]`; zeros if there is no frequency
///
/// # Errors
///
/// - [`PosencError::InvFreq`] if a frequency is not finite.
/// - [`PosencError::Position`] if a distance is above 2^53 or its angle overflows.
/// - [`PosencError::TooLarge`] if there is no memory for the result.
///
/// # Precision
///
/// `f64`.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopeConfig, RopePairing};
/// use ndarray::array;
///
/// let inv_freq = rope::inv_freq(&RopeConfig::new(128, RopePairing::Interleaved))?;
/// let curve = rope::decay(&inv_freq, &array![0, 50, 250])?;
/// assert_eq!(curve[0], 31.5); // (0 + 1 + .. + 63) / 64
/// assert!((curve[1] - 12.0591).abs() < 1e-4 && (curve[2] - 6.2012).abs() < 1e-4);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, section 3.4.3, and its author's introduction for the sums that count.
pub fn decay(
    inv_freq: &ArrayRef1<f64>,
    distances: &ArrayRef1<usize>,
) -> Result<Array1<f64>, PosencError> {
    check_inv_freq(inv_freq)?;
    check_positions(inv_freq, distances)?;
    let n_planes = inv_freq.len();
    let mut curve = memory::zeros(1, distances.len())?.remove_axis(Axis(0));
    for (out, &distance) in curve.iter_mut().zip(distances) {
        // Running sums: the length before plane j is added is the term of j.
        let (mut real, mut imaginary, mut total) = (0.0_f64, 0.0_f64, 0.0);
        for w in inv_freq {
            total += real.hypot(imaginary);
            let (sin, cos) = (distance as f64 * w).sin_cos();
            real += cos;
            imaginary += sin;
        }
        *out = total / n_planes.max(1) as f64;
    }
    Ok(curve)
}
