//! The SiLU (swish) activation and its derivative.

use llm_numerics::{Float, simd};
use ndarray::{Array, ArrayRef, Dimension};

use crate::FfnError;

/// `x sigmoid(x)` of one number.
///
/// ```text
/// silu(x) = x / (1 + e^-x)
/// ```
///
/// # Precision
///
/// `f32`: at most 6 units in the last place above -87, below it the result may be 0
/// (the true value is below 2e-36). `silu(-inf)` is NaN, as in torch.
///
/// # Example
///
/// ```
/// use llm_ffn::silu;
///
/// assert_eq!(silu::value(0.0_f64), 0.0);
/// assert_eq!(silu::value(1.0_f64), 1.0 / (1.0 + (-1.0_f64).exp()));
/// ```
///
/// Source: Elfwing et al., arXiv:1702.03118v3; `torch.nn.functional.silu`.
#[inline(always)]
#[must_use]
#[doc(alias = "swish")]
pub fn value<F: Float>(x: F) -> F {
    x * x.sigmoid()
}

/// The derivative of [`value`].
///
/// ```text
/// s = sigmoid(x),   silu'(x) = s (1 + x (1 - s))
/// ```
///
/// # Precision
///
/// `f32`: absolute error below 4e-7 (it passes through 0 near -1.278).
#[inline(always)]
#[must_use]
pub fn derivative<F: Float>(x: F) -> F {
    let (s, rest) = sigmoids(x);
    s * (F::one() + x * rest)
}

/// `sigmoid(x)` and `1 - sigmoid(x)`, the latter without cancellation.
#[inline(always)]
pub(crate) fn sigmoids<F: Float>(x: F) -> (F, F) {
    let e = (-x).fast_exp();
    let s = F::one() / (F::one() + e);
    let rest = if s == F::zero() { F::one() } else { e * s }; // infinity times 0
    (s, rest)
}

/// [`value`] of each element.
///
/// # Shapes
///
/// - `x`: any, returns the same
///
/// # Precision
///
/// As [`value`].
///
/// # Example
///
/// ```
/// use llm_ffn::silu;
/// use ndarray::array;
///
/// let y = silu::apply(&array![[0.0_f32, 20.0], [-200.0, 1.0]]);
/// assert_eq!(y[[0, 1]], 20.0); // the gate is open
/// assert_eq!(y[[1, 0]], 0.0); // the gate is shut
/// ```
#[must_use]
pub fn apply<F: Float, D: Dimension>(x: &ArrayRef<F, D>) -> Array<F, D> {
    let mut y = x.to_owned();
    simd::vectorize(
        #[inline(always)]
        || match y.as_slice_memory_order_mut() {
            Some(y) => y.iter_mut().for_each(|y| *y = value(*y)),
            None => y.iter_mut().for_each(|y| *y = value(*y)),
        },
    );
    y
}

/// The gradient of [`apply`]: `dout` times [`derivative`], element by element.
///
/// # Shapes
///
/// - `dout`, `x`: any, the same; returns the same
///
/// # Errors
///
/// [`FfnError::DoutShape`] if the shapes differ; for arrays that are not matrices
/// the error gives the shape as `[elements in all rows, last axis]`.
///
/// # Precision
///
/// As [`derivative`].
pub fn backward<F: Float, D: Dimension>(
    dout: &ArrayRef<F, D>,
    x: &ArrayRef<F, D>,
) -> Result<Array<F, D>, FfnError> {
    if dout.raw_dim() != x.raw_dim() {
        return Err(FfnError::DoutShape {
            expected: as_matrix(x.shape()),
            got: as_matrix(dout.shape()),
        });
    }
    let mut dx = x.to_owned();
    simd::vectorize(
        #[inline(always)]
        || match (dx.as_slice_mut(), dout.as_slice()) {
            (Some(dx), Some(dout)) => {
                for (dx, &dout) in dx.iter_mut().zip(dout) {
                    *dx = dout * derivative(*dx);
                }
            }
            _ => dx.zip_mut_with(dout, |dx, &dout| *dx = dout * derivative(*dx)),
        },
    );
    Ok(dx)
}

fn as_matrix(shape: &[usize]) -> [usize; 2] {
    match shape {
        [rest @ .., last] => [rest.iter().product(), *last],
        [] => [1, 1],
    }
}
