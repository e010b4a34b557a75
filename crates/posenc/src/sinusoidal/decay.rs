//! Inner products of sinusoidal positions, and how they fall with the distance.

use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, Axis};

use super::{SinusoidalConfig, inv_freq};
use crate::{PosencError, memory};
use llm_numerics::gemm;

/// The inner product of each row of a table with each other row: `table tableᵀ`.
///
/// Of a table of [`table`](super::table) with an even `d_model`, entry `[p, q]` depends on `p - q` only: see [`decay`].
///
/// # Shapes
///
/// - `table`: `[n_positions, d_model]`, any strides
/// - returns: `[n_positions, n_positions]`
///
/// # Errors
///
/// - [`PosencError::TooLarge`] if there is no memory for the result, or the table is longer than memory because it
///   repeats.
///
/// # Precision
///
/// Sums of `d_model` products in `f32`. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
///
/// let config = SinusoidalConfig::new(128, SinusoidalLayout::Interleaved, SinusoidalExponent::TwoIOverDim);
/// let products = sinusoidal::inner_products(&sinusoidal::table(80, &config)?)?;
/// assert_eq!(products.dim(), (80, 80));
/// assert!((products[[7, 7]] - 64.0).abs() < 1e-4); // sin² + cos² = 1, for 64 frequencies
/// assert!((products[[10, 15]] - products[[70, 75]]).abs() < 1e-4);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn inner_products(table: &ArrayRef2<f32>) -> Result<Array2<f32>, PosencError> {
    let (n, d_model) = table.dim();
    memory::check_size::<f32>(n, n)?;
    memory::check_size::<f32>(n, d_model)?; // of what is walked through
    gemm::matmul(table, &table.t()).map_err(|_| PosencError::TooLarge {
        rows: n,
        columns: n,
    })
}

/// The inner product of two rows as a function of the distance between their positions.
///
/// ```text
/// decay(distance) = sum over i of cos(distance inv_freq_i)
/// ```
///
/// because `sin a sin b + cos a cos b = cos(a - b)`. It is `d_model / 2` at distance 0, and falls, swinging, with the
/// distance. The row of `padding_idx` is not looked at.
///
/// # Shapes
///
/// - `distances`: `[n]`, in tokens, of any sign, fractions too
/// - returns: `[n]`
///
/// # Errors
///
/// - As [`inv_freq`].
/// - [`PosencError::DecayDModel`] if `d_model` is odd with [`TwoIOverDim`](super::SinusoidalExponent::TwoIOverDim): a sine without its
///   cosine makes the inner product depend on both positions.
/// - [`PosencError::DecayDistance`] if a distance is not finite.
/// - [`PosencError::TooLarge`] if there is no memory for the result.
///
/// # Precision
///
/// `f64`.
///
/// # Example
///
/// ```
/// use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
/// use ndarray::array;
///
/// let config = SinusoidalConfig::new(128, SinusoidalLayout::Interleaved, SinusoidalExponent::TwoIOverDim);
/// let curve = sinusoidal::decay(&array![0.0, 1.0, 10.0, 50.0], &config)?;
/// assert_eq!(curve[0], 64.0);
/// assert!(curve[1] > curve[2] && curve[2] > curve[3]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn decay(
    distances: &ArrayRef1<f64>,
    config: &SinusoidalConfig,
) -> Result<Array1<f64>, PosencError> {
    let inv_freq = inv_freq(config)?;
    if config.exponent == super::SinusoidalExponent::TwoIOverDim && config.d_model % 2 == 1 {
        return Err(PosencError::DecayDModel {
            got: config.d_model,
        });
    }
    let mut out = memory::zeros(1, distances.len())?.remove_axis(Axis(0));
    if let Some((index, &got)) = distances.indexed_iter().find(|(_, x)| !x.is_finite()) {
        return Err(PosencError::DecayDistance { index, got });
    }
    for (out, &distance) in out.iter_mut().zip(distances) {
        *out = inv_freq.iter().map(|w| (distance * w).cos()).sum();
    }
    Ok(out)
}
