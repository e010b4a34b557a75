//! The matrix product: one function before the `gemm` crate and `ndarray`'s own.

use ndarray::{Array2, ArrayRef2, ArrayViewMut2, Axis};

use crate::{Float, NumericsError, threads};

/// Work that is worth a task of its own, in multiply-adds.
const TASK: usize = 8 << 20;
/// Tasks are cut at multiples of this many rows or columns.
const GRAIN: usize = 16;

/// The matrix product `a b`.
///
/// # Shapes
///
/// - `a`: `[m, k]`, `b`: `[k, n]`, any strides (pass `w.t()` for `x Wᵀ`)
/// - returns: `[m, n]`
///
/// # Errors
///
/// - [`NumericsError::InnerAxis`] if the columns of `a` are not the rows of `b`.
/// - [`NumericsError::TooLarge`] if there is no memory for the result.
///
/// # Precision
///
/// Sums of `k` products in `F`. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_numerics::gemm;
/// use ndarray::array;
///
/// let a = array![[1.0, 2.0], [3.0, 4.0]];
/// let b = array![[0.0, 1.0], [1.0, 0.0]];
/// assert_eq!(gemm::matmul(&a, &b)?, array![[2.0, 1.0], [4.0, 3.0]]);
/// # Ok::<(), llm_numerics::NumericsError>(())
/// ```
pub fn matmul<F: Float>(a: &ArrayRef2<F>, b: &ArrayRef2<F>) -> Result<Array2<F>, NumericsError> {
    let mut out = zeros(a.nrows(), b.ncols())?;
    general_matmul(F::one(), a, b, F::zero(), &mut out)?;
    Ok(out)
}

/// `out = alpha a b + beta out`, the general product of the BLAS.
///
/// With `beta == 0` the old content of `out` is not read.
///
/// # Shapes
///
/// - `a`: `[m, k]`, `b`: `[k, n]`, `out`: `[m, n]`, any strides
///
/// # Errors
///
/// - [`NumericsError::InnerAxis`] if the columns of `a` are not the rows of `b`.
/// - [`NumericsError::OutShape`] if `out` is not `[m, n]`.
///
/// # Precision
///
/// As [`matmul`].
pub fn general_matmul<F: Float>(
    alpha: F,
    a: &ArrayRef2<F>,
    b: &ArrayRef2<F>,
    beta: F,
    out: &mut ArrayRef2<F>,
) -> Result<(), NumericsError> {
    let (m, k) = a.dim();
    let n = b.ncols();
    if b.nrows() != k {
        return Err(NumericsError::InnerAxis {
            a: [m, k],
            b: [b.nrows(), n],
        });
    }
    if out.dim() != (m, n) {
        return Err(NumericsError::OutShape {
            expected: [m, n],
            got: [out.nrows(), out.ncols()],
        });
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    if k == 0 {
        scale(beta, out);
        return Ok(());
    }
    let work = m.saturating_mul(n).saturating_mul(k);
    let n_tasks = work / TASK;
    if n_tasks < 2 {
        kernel(alpha, a, b, beta, out);
        return Ok(());
    }
    // The cut depends on the shape alone, so the bits do not depend on the threads.
    let axis = if m >= n { Axis(0) } else { Axis(1) };
    let length = out.len_of(axis);
    let panel = length.div_ceil(n_tasks).next_multiple_of(GRAIN);
    let panels: Vec<(usize, ArrayViewMut2<'_, F>)> =
        out.axis_chunks_iter_mut(axis, panel).enumerate().collect();
    threads::for_each(panels, |(i, mut out)| {
        let start = i * panel;
        let range = ndarray::Slice::from(start..start + out.len_of(axis));
        if axis == Axis(0) {
            kernel(alpha, &a.slice_axis(axis, range), b, beta, &mut out);
        } else {
            kernel(alpha, a, &b.slice_axis(axis, range), beta, &mut out);
        }
    });
    Ok(())
}

/// Zeros, or an error where `Array2::zeros` would panic or abort.
fn zeros<F: Float>(m: usize, n: usize) -> Result<Array2<F>, NumericsError> {
    let too_large = NumericsError::TooLarge { shape: [m, n] };
    let len = m.checked_mul(n).ok_or(too_large)?;
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(|_| too_large)?;
    data.resize(len, F::zero());
    Array2::from_shape_vec((m, n), data).map_err(|_| too_large)
}

fn scale<F: Float>(beta: F, out: &mut ArrayRef2<F>) {
    if beta == F::zero() {
        out.fill(F::zero());
    } else if beta != F::one() {
        out.mapv_inplace(|x| beta * x);
    }
}

#[cfg(not(feature = "fast"))]
fn kernel<F: Float>(alpha: F, a: &ArrayRef2<F>, b: &ArrayRef2<F>, beta: F, out: &mut ArrayRef2<F>) {
    if beta == F::zero() {
        out.fill(F::zero()); // a NaN there must not survive
    }
    ndarray::linalg::general_mat_mul(alpha, a, b, beta, out);
}

#[cfg(feature = "fast")]
#[allow(unsafe_code, reason = "the gemm crate takes raw pointers")]
fn kernel<F: Float>(alpha: F, a: &ArrayRef2<F>, b: &ArrayRef2<F>, beta: F, out: &mut ArrayRef2<F>) {
    let (m, k) = a.dim();
    let n = b.ncols();
    // SAFETY: pointers and strides come from live arrays whose shapes the caller has
    // checked; `out` is borrowed mutably, so it overlaps neither `a` nor `b`, and
    // ndarray never makes a mutable array whose elements overlap each other.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            out.strides()[1],
            out.strides()[0],
            beta != F::zero(),
            a.as_ptr(),
            a.strides()[1],
            a.strides()[0],
            b.as_ptr(),
            b.strides()[1],
            b.strides()[0],
            beta,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
