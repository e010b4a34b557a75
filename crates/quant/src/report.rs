//! What quantization loses.

use ndarray::{ArrayRef, Dimension};

use crate::QuantError;

/// How far numbers are from what they should be.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ErrorReport {
    /// Numbers that were compared.
    pub n: usize,
    /// The largest difference.
    pub max: f64,
    /// The mean of the squared differences.
    pub mean_square: f64,
    /// The mean of the squares of the exact numbers over [`mean_square`](Self::mean_square), in decibels; infinite where nothing is
    /// lost, NaN where all is zero.
    #[doc(alias = "SQNR")]
    pub signal_to_noise: f64,
}

/// Compares numbers with the exact ones.
///
/// ```text
/// max = max |got - exact|
/// mean_square = mean (got - exact)²
/// signal_to_noise = 10 log₁₀ (mean exact² / mean_square)
/// ```
///
/// # Shapes
///
/// - `exact`, `got`: any, the same, any strides
///
/// # Errors
///
/// [`QuantError::OutShape`] if the shapes differ.
///
/// # Precision
///
/// Sums in `f64`. A NaN anywhere gives NaN; without numbers all is 0 and the ratio NaN.
///
/// # Example
///
/// ```
/// use llm_quant::report;
/// use ndarray::array;
///
/// let report = report::compare(&array![3.0, -4.0, 0.0], &array![3.0, -4.5, 0.0])?;
/// assert_eq!((report.max, report.mean_square), (0.5, 0.25 / 3.0));
/// assert!((report.signal_to_noise - 20.0).abs() < 1e-12); // 25 / 0.25
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn compare<D: Dimension>(
    exact: &ArrayRef<f32, D>,
    got: &ArrayRef<f32, D>,
) -> Result<ErrorReport, QuantError> {
    if exact.shape() != got.shape() {
        return Err(QuantError::OutShape {
            expected: exact.shape().to_vec(),
            got: got.shape().to_vec(),
        });
    }
    let (mut max, mut noise, mut signal) = (0.0_f64, 0.0, 0.0);
    for (&exact, &got) in exact.iter().zip(got) {
        let (exact, got) = (f64::from(exact), f64::from(got));
        let error = (got - exact).abs();
        max = max.max(error);
        noise += error * error;
        signal += exact * exact;
    }
    let n = exact.len();
    Ok(ErrorReport {
        n,
        max: if noise.is_nan() { f64::NAN } else { max },
        mean_square: noise / n.max(1) as f64,
        signal_to_noise: 10.0 * (signal / noise).log10(),
    })
}
