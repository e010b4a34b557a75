//! RMSNorm in LLaMA's order: normalize, then multiply by the weight.

use llm_numerics::{Float, simd, threads};
use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, Axis, Zip};

use crate::{FfnError, rows};

/// Partial sums of the weight's gradient: at most this many, whatever the threads.
const PARTS: usize = 64;
/// Tokens in a partial sum, at least.
const PART_ROWS: usize = 16;

/// Divides each token by its root mean square and multiplies by `weight`.
///
/// ```text
/// y_i = w_i x_i rstd,   rstd = 1 / sqrt(mean_j x_j^2 + eps)
/// ```
///
/// This is the order of LLaMA (Qwen, Mistral, Phi-3): the normalized value is rounded
/// to the type of `x` before it meets the weight. Gemma multiplies by `1 + w` before
/// it rounds; in `f32` that differs only by the `1 +`.
///
/// # Shapes
///
/// - `x`: `[tokens, d_model]`, `weight`: `[d_model]`
/// - returns: `[tokens, d_model]`
///
/// # Errors
///
/// - [`FfnError::WeightLen`] if `weight` is not one number per column of `x`.
/// - [`FfnError::Eps`] if `eps` is negative or not finite.
///
/// # Precision
///
/// The mean is summed in `F` in a fixed order; squares that would overflow or vanish
/// are summed relative to the largest element (with `eps == 0`, a root mean square below
/// the smallest normal number may still give infinity). A token of zeros gives zeros if
/// `eps > 0` and NaN if `eps == 0`, as in torch; a token with NaN or infinity gives NaN
/// (and zeros beside infinity).
///
/// # Example
///
/// ```
/// use llm_ffn::rms_norm;
/// use ndarray::array;
///
/// let y = rms_norm::forward(&array![[3.0, 3.0], [0.0, 2.0]], &array![1.0, 10.0], 0.0)?;
/// assert_eq!(y.row(0), array![1.0, 10.0]);
/// # Ok::<(), llm_ffn::FfnError>(())
/// ```
///
/// Source: Zhang and Sennrich, arXiv:1910.07467v1; `LlamaRMSNorm` of transformers 5.23.
pub fn forward<F: Float>(
    x: &ArrayRef2<F>,
    weight: &ArrayRef1<F>,
    eps: f64,
) -> Result<Array2<F>, FfnError> {
    Ok(forward_with_rstd(x, weight, eps)?.0)
}

/// [`forward`], and the reciprocal root mean square of each token for the backward.
///
/// # Shapes
///
/// - `x`: `[tokens, d_model]`, `weight`: `[d_model]`
/// - returns: `[tokens, d_model]` and `rstd` `[tokens]`
///
/// # Errors
///
/// As [`forward`].
///
/// # Precision
///
/// As [`forward`].
pub fn forward_with_rstd<F: Float>(
    x: &ArrayRef2<F>,
    weight: &ArrayRef1<F>,
    eps: f64,
) -> Result<(Array2<F>, Array1<F>), FfnError> {
    check_weight(x, weight)?;
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(FfnError::Eps(eps));
    }
    let eps = F::from_f64(eps);
    let mut y = Array2::zeros(x.raw_dim());
    let mut rstd = Array1::zeros(x.nrows());
    let mut weight_buffer = Vec::new();
    let weight = rows::read(weight.view(), &mut weight_buffer);

    let n_rows = rows::per_task(x.ncols());
    let tasks: Vec<_> = x
        .axis_chunks_iter(Axis(0), n_rows)
        .zip(y.axis_chunks_iter_mut(Axis(0), n_rows))
        .zip(rstd.axis_chunks_iter_mut(Axis(0), n_rows))
        .collect();
    threads::for_each(tasks, |((x, mut y), mut rstd)| {
        let (mut x_buffer, mut y_buffer) = (Vec::new(), Vec::new());
        simd::vectorize(
            #[inline(always)]
            || {
                let outputs = y.rows_mut().into_iter().zip(&mut rstd);
                for (x, (y, rstd)) in x.rows().into_iter().zip(outputs) {
                    let x = rows::read(x, &mut x_buffer);
                    let scale = reciprocal(x, eps);
                    *rstd = scale;
                    rows::write(
                        y,
                        &mut y_buffer,
                        #[inline(always)]
                        |y| {
                            for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                                *y = x * scale * w;
                            }
                        },
                    );
                }
            },
        );
    });
    Ok((y, rstd))
}

/// The gradients of [`forward`] with respect to `x` and `weight`.
///
/// ```text
/// n = x rstd,   g = dout w
/// dx = rstd (g - n mean_j(g_j n_j)),   dw = sum over tokens of dout n
/// ```
///
/// # Shapes
///
/// - `dout`, `x`: `[tokens, d_model]`, `weight`: `[d_model]`
/// - `rstd`: `[tokens]`, from [`forward_with_rstd`]
/// - returns: `dx` `[tokens, d_model]` and `dweight` `[d_model]`
///
/// # Errors
///
/// - [`FfnError::WeightLen`] if `weight` is not one number per column of `x`.
/// - [`FfnError::DoutShape`] if `dout` does not have the shape of `x`.
/// - [`FfnError::RstdLen`] if `rstd` is not one number per token.
///
/// # Precision
///
/// Sums in `F` in a fixed order: `dweight` over blocks of tokens, then over the blocks.
/// The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_ffn::rms_norm;
/// use ndarray::array;
///
/// let (x, weight) = (array![[3.0, 4.0]], array![1.0, 1.0]);
/// let (y, rstd) = rms_norm::forward_with_rstd(&x, &weight, 0.0)?;
/// // The loss sum(y^2) / 2 cannot change: the norm of y is fixed.
/// let (dx, _) = rms_norm::backward(&y, &x, &weight, &rstd)?;
/// assert!(dx.iter().all(|d: &f64| d.abs() < 1e-15));
/// # Ok::<(), llm_ffn::FfnError>(())
/// ```
pub fn backward<F: Float>(
    dout: &ArrayRef2<F>,
    x: &ArrayRef2<F>,
    weight: &ArrayRef1<F>,
    rstd: &ArrayRef1<F>,
) -> Result<(Array2<F>, Array1<F>), FfnError> {
    check_weight(x, weight)?;
    if dout.dim() != x.dim() {
        return Err(FfnError::DoutShape {
            expected: [x.nrows(), x.ncols()],
            got: [dout.nrows(), dout.ncols()],
        });
    }
    if rstd.len() != x.nrows() {
        return Err(FfnError::RstdLen {
            expected: x.nrows(),
            got: rstd.len(),
        });
    }
    let mut dx = Array2::zeros(x.raw_dim());
    let mut weight_buffer = Vec::new();
    let weight = rows::read(weight.view(), &mut weight_buffer);

    let n_rows = x.nrows().div_ceil(PARTS).max(PART_ROWS);
    let mut parts = Array2::zeros((x.nrows().div_ceil(n_rows), x.ncols()));
    let tasks: Vec<_> = dout
        .axis_chunks_iter(Axis(0), n_rows)
        .zip(x.axis_chunks_iter(Axis(0), n_rows))
        .zip(rstd.axis_chunks_iter(Axis(0), n_rows))
        .zip(dx.axis_chunks_iter_mut(Axis(0), n_rows))
        .zip(parts.rows_mut())
        .collect();
    threads::for_each(tasks, |((((dout, x), rstd), mut dx), part)| {
        let (mut dout_buffer, mut x_buffer, mut dx_buffer) = (Vec::new(), Vec::new(), Vec::new());
        let mut normal = vec![F::zero(); weight.len()];
        rows::write(part, &mut Vec::new(), |dweight| {
            simd::vectorize(
                #[inline(always)]
                || {
                    let inputs = dout.rows().into_iter().zip(x.rows()).zip(&rstd);
                    for (((dout, x), &rstd), dx) in inputs.zip(dx.rows_mut()) {
                        let dout = rows::read(dout, &mut dout_buffer);
                        let x = rows::read(x, &mut x_buffer);
                        rows::write(
                            dx,
                            &mut dx_buffer,
                            #[inline(always)]
                            |dx| backward_row(dout, x, weight, rstd, &mut normal, dx, dweight),
                        );
                    }
                },
            );
        });
    });
    let mut dweight = Array1::zeros(x.ncols());
    for part in parts.rows() {
        Zip::from(&mut dweight)
            .and(part)
            .for_each(|sum, &part| *sum += part);
    }
    Ok((dx, dweight))
}

fn check_weight<F>(x: &ArrayRef2<F>, weight: &ArrayRef1<F>) -> Result<(), FfnError> {
    if weight.len() != x.ncols() {
        return Err(FfnError::WeightLen {
            expected: x.ncols(),
            got: weight.len(),
        });
    }
    Ok(())
}

#[inline(always)]
fn backward_row<F: Float>(
    dout: &[F],
    x: &[F],
    weight: &[F],
    rstd: F,
    normal: &mut [F],
    dx: &mut [F],
    dweight: &mut [F],
) {
    for (n, &x) in normal.iter_mut().zip(x) {
        *n = x * rstd;
    }
    for ((sum, &dout), &n) in dweight.iter_mut().zip(dout).zip(&*normal) {
        *sum += dout * n;
    }
    for ((dx, &dout), &w) in dx.iter_mut().zip(dout).zip(weight) {
        *dx = dout * w;
    }
    let mean = simd::dot(dx, normal) / F::from_f64(x.len() as f64);
    for (dx, &n) in dx.iter_mut().zip(&*normal) {
        *dx = rstd * (*dx - n * mean);
    }
}

/// `1 / sqrt(mean x^2 + eps)`; an empty row has mean 0.
#[inline(always)]
fn reciprocal<F: Float>(x: &[F], eps: F) -> F {
    let n = F::from_f64(x.len().max(1) as f64);
    let squares = simd::dot(x, x);
    let safe = F::min_positive_value() / F::epsilon();
    if squares <= F::max_value() && (squares >= safe || eps >= safe) {
        return F::one() / (squares / n + eps).sqrt();
    }
    scaled_reciprocal(x, n, eps)
}

/// [`reciprocal`] where the squares overflow, underflow or are not numbers.
#[cold]
fn scaled_reciprocal<F: Float>(x: &[F], n: F, eps: F) -> F {
    let larger = |a: F, b: F| if b > a { b } else { a }; // ignores NaN
    let largest = x.iter().fold(eps.sqrt(), |a, b| larger(a, b.abs()));
    if largest == F::zero() || largest == F::infinity() {
        // Nothing to scale by: zeros, NaN or infinities.
        return F::one() / (simd::dot(x, x) / n + eps).sqrt();
    }
    let squares: F = x.iter().map(|&x| (x / largest) * (x / largest)).sum();
    let eps = (eps.sqrt() / largest) * (eps.sqrt() / largest);
    F::one() / largest / (squares / n + eps).sqrt()
}
