//! Softmax and log-sum-exp that cannot overflow.

use ndarray::{ArrayRef, Axis, Dimension};

use crate::{Float, simd};

/// Terms that are summed in their own type before they go to an `f64`.
const BLOCK: usize = 256;

/// Replaces each row along the last axis by its softmax.
///
/// ```text
/// m = max_j x_j,   p_i = e^(x_i - m) / sum_j e^(x_j - m)
/// ```
///
/// A row that is all `-inf` (everything masked out) becomes zeros, not NaN. A row
/// with a NaN or `+inf` becomes NaN.
///
/// # Shapes
///
/// - `x`: `[.., n]`, any number of axes, any strides
///
/// # Precision
///
/// `f32`: relative error of each probability below `6e-7 + 1e-7 * |x_i - m|`, for rows of any
/// length (twice the 2 units of the exponential, and the roundings of sum and product);
/// probabilities below `e^-87` of the largest are 0.
///
/// # Example
///
/// ```
/// use llm_numerics::softmax;
/// use ndarray::array;
///
/// let mut x = array![[0.0_f64, 0.0], [1000.0, f64::NEG_INFINITY]];
/// softmax::softmax_inplace(&mut x);
/// assert_eq!(x, array![[0.5, 0.5], [1.0, 0.0]]);
/// ```
pub fn softmax_inplace<F: Float, D: Dimension>(x: &mut ArrayRef<F, D>) {
    for_each_row(x, |row| {
        softmax_slice(row);
    });
}

/// Replaces each row along the last axis by the logarithm of its softmax.
///
/// ```text
/// y_i = x_i - logsumexp(x)
/// ```
///
/// A row that is all `-inf` stays so.
///
/// # Shapes
///
/// - `x`: `[.., n]`, any number of axes, any strides
///
/// # Example
///
/// ```
/// use llm_numerics::softmax;
/// use ndarray::array;
///
/// let mut x = array![1000.0_f64, 1000.0];
/// softmax::log_softmax_inplace(&mut x);
/// assert_eq!(x, array![-2_f64.ln(), -2_f64.ln()]);
/// ```
pub fn log_softmax_inplace<F: Float, D: Dimension>(x: &mut ArrayRef<F, D>) {
    for_each_row(x, |row| {
        let (max, rest) = log_sum_exp_parts(row);
        if max > F::neg_infinity() || rest.is_nan() {
            // The maximum first: it may be large, and the rest is at most ln n.
            row.iter_mut().for_each(|x| *x = (*x - max) - rest);
        }
    });
}

/// `ln sum_i e^(x_i)`; `-inf` for an empty or wholly masked row, `inf` if any element is.
///
/// # Precision
///
/// The terms are summed relative to the maximum, so that nothing overflows.
///
/// # Example
///
/// ```
/// use llm_numerics::softmax::log_sum_exp;
///
/// assert_eq!(log_sum_exp(&[1000.0_f64, 1000.0]), 1000.0 + 2_f64.ln());
/// assert_eq!(log_sum_exp::<f32>(&[]), f32::NEG_INFINITY);
/// ```
#[must_use]
pub fn log_sum_exp<F: Float>(x: &[F]) -> F {
    let (max, rest) = log_sum_exp_parts(x);
    max + rest
}

/// The maximum, and the log-sum-exp relative to it (between 0 and `ln n`; NaN if any element is).
fn log_sum_exp_parts<F: Float>(x: &[F]) -> (F, F) {
    simd::vectorize(
        #[inline(always)]
        || {
            let max = simd::max(x);
            if max.is_infinite() {
                // Empty or all masked, or an infinite element: no differences to sum.
                let nan = x.iter().copied().find(|x| x.is_nan());
                return (max, nan.unwrap_or(F::zero()));
            }
            let mut total = 0.0; // in f64, so that long rows keep their small terms
            let mut terms = [F::zero(); BLOCK];
            for chunk in x.chunks(BLOCK) {
                for (term, &x) in terms.iter_mut().zip(chunk) {
                    *term = (x - max).fast_exp();
                }
                total += simd::sum(&terms[..chunk.len()]).as_f64();
            }
            (max, F::from_f64(total.ln()))
        },
    )
}

/// Softmax of one contiguous row, in place; returns its log-sum-exp.
///
/// See [`softmax_inplace`].
pub fn softmax_slice<F: Float>(row: &mut [F]) -> F {
    simd::vectorize(
        #[inline(always)]
        || {
            let max = simd::max(row);
            if max == F::neg_infinity() && row.iter().all(|x| *x == max) {
                row.fill(F::zero());
                return max;
            }
            let mut total = 0.0; // in f64, so that long rows keep their small terms
            for block in row.chunks_mut(BLOCK) {
                for x in block.iter_mut() {
                    *x = (*x - max).fast_exp();
                }
                total += simd::sum(block).as_f64();
            }
            let inverse = F::from_f64(1.0 / total);
            for x in row.iter_mut() {
                *x *= inverse;
            }
            max + F::from_f64(total.ln())
        },
    )
}

/// Calls `work` with each row along the last axis as a contiguous slice.
fn for_each_row<F: Float, D: Dimension>(x: &mut ArrayRef<F, D>, mut work: impl FnMut(&mut [F])) {
    if x.ndim() == 0 || x.is_empty() {
        return;
    }
    let last = Axis(x.ndim() - 1);
    let mut copy = Vec::new();
    for mut row in x.lanes_mut(last) {
        if let Some(slice) = row.as_slice_mut() {
            work(slice);
            continue;
        }
        copy.clear();
        copy.extend(row.iter().copied());
        work(&mut copy);
        row.iter_mut().zip(&copy).for_each(|(x, y)| *x = *y);
    }
}
