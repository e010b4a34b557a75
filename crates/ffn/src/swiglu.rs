//! SwiGLU: the gated product by itself, and the whole feed-forward block around it.

mod block;

use llm_numerics::{Float, simd, threads};
use ndarray::{Array2, ArrayRef2, Axis};

use crate::glu::GluPacking;
use crate::{FfnError, rows, silu};

pub use block::{
    SwigluGradients, SwigluSaved, SwigluWeights, block_backward, forward, forward_saved,
};

/// `silu(gate) * up`, element by element.
///
/// ```text
/// out[t, j] = silu(gate[t, j]) up[t, j]
/// ```
///
/// # Shapes
///
/// - `x`: `[tokens, 2 * d_ff]`, gate and up as `packing` says
/// - returns: `[tokens, d_ff]`
///
/// # Errors
///
/// [`FfnError::PackedLen`] if `x` has an odd number of columns.
///
/// # Precision
///
/// As [`silu::value`], and one rounding for the product. The same bits for any
/// number of threads.
///
/// # Example
///
/// ```
/// use llm_ffn::{glu::GluPacking, silu, swiglu};
/// use ndarray::array;
///
/// let x = array![[1.0, 0.0, 3.0, 4.0]]; // gate 1, 0; up 3, 4
/// let out = swiglu::apply(&x, GluPacking::GateUp)?;
/// assert_eq!(out, array![[3.0 * silu::value(1.0), 0.0]]);
/// # Ok::<(), llm_ffn::FfnError>(())
/// ```
///
/// Source: Shazeer, "GLU variants improve Transformer", arXiv:2002.05202v1.
pub fn apply<F: Float>(x: &ArrayRef2<F>, packing: GluPacking) -> Result<Array2<F>, FfnError> {
    let mut out = Array2::zeros((x.nrows(), x.ncols() / 2));
    apply_into(x, packing, &mut out)?;
    Ok(out)
}

/// [`apply`] into an array of the caller's.
///
/// # Shapes
///
/// - `x`: `[tokens, 2 * d_ff]`, `out`: `[tokens, d_ff]`, any strides
///
/// # Errors
///
/// - [`FfnError::PackedLen`] if `x` has an odd number of columns.
/// - [`FfnError::OutShape`] if `out` is not `[tokens, d_ff]`.
///
/// # Precision
///
/// As [`apply`].
pub fn apply_into<F: Float>(
    x: &ArrayRef2<F>,
    packing: GluPacking,
    out: &mut ArrayRef2<F>,
) -> Result<(), FfnError> {
    let expected = [x.nrows(), packed(x)?];
    if out.shape() != expected {
        return Err(FfnError::OutShape {
            expected,
            got: [out.nrows(), out.ncols()],
        });
    }
    let n_rows = rows::per_task(x.ncols());
    let tasks: Vec<_> = x
        .axis_chunks_iter(Axis(0), n_rows)
        .zip(out.axis_chunks_iter_mut(Axis(0), n_rows))
        .collect();
    threads::for_each(tasks, |(x, mut out)| {
        let (mut x_buffer, mut out_buffer) = (Vec::new(), Vec::new());
        simd::vectorize(
            #[inline(always)]
            || {
                for (x, out) in x.rows().into_iter().zip(out.rows_mut()) {
                    let x = rows::read(x, &mut x_buffer);
                    rows::write(
                        out,
                        &mut out_buffer,
                        #[inline(always)]
                        |out| apply_row(x, packing, out),
                    );
                }
            },
        );
    });
    Ok(())
}

/// The gradient of [`apply`] with respect to `x`.
///
/// ```text
/// dgate = dout up silu'(gate),   dup = dout silu(gate)
/// ```
///
/// # Shapes
///
/// - `dout`: `[tokens, d_ff]`, the upstream gradient
/// - `x`: `[tokens, 2 * d_ff]`, the input of the forward call
/// - returns: `[tokens, 2 * d_ff]`, packed as `x`
///
/// # Errors
///
/// - [`FfnError::PackedLen`] if `x` has an odd number of columns.
/// - [`FfnError::DoutShape`] if `dout` is not `[tokens, d_ff]`.
///
/// # Precision
///
/// As [`silu::derivative`].
///
/// # Example
///
/// ```
/// use llm_ffn::{glu::GluPacking, swiglu};
/// use ndarray::array;
///
/// let dx = swiglu::backward(&array![[1.0]], &array![[0.0, 3.0]], GluPacking::GateUp)?;
/// assert_eq!(dx, array![[1.5, 0.0]]); // silu'(0) = 1/2, silu(0) = 0
/// # Ok::<(), llm_ffn::FfnError>(())
/// ```
pub fn backward<F: Float>(
    dout: &ArrayRef2<F>,
    x: &ArrayRef2<F>,
    packing: GluPacking,
) -> Result<Array2<F>, FfnError> {
    let mut dx = Array2::zeros(x.raw_dim());
    backward_into(dout, x, packing, &mut dx)?;
    Ok(dx)
}

/// [`backward`] into an array of the caller's.
///
/// # Shapes
///
/// - `dout`: `[tokens, d_ff]`, `x` and `dx`: `[tokens, 2 * d_ff]`, any strides
///
/// # Errors
///
/// - [`FfnError::PackedLen`] if `x` has an odd number of columns.
/// - [`FfnError::DoutShape`] if `dout` is not `[tokens, d_ff]`.
/// - [`FfnError::OutShape`] if `dx` does not have the shape of `x`.
///
/// # Precision
///
/// As [`backward`].
pub fn backward_into<F: Float>(
    dout: &ArrayRef2<F>,
    x: &ArrayRef2<F>,
    packing: GluPacking,
    dx: &mut ArrayRef2<F>,
) -> Result<(), FfnError> {
    let expected = [x.nrows(), packed(x)?];
    if dout.shape() != expected {
        return Err(FfnError::DoutShape {
            expected,
            got: [dout.nrows(), dout.ncols()],
        });
    }
    if dx.dim() != x.dim() {
        return Err(FfnError::OutShape {
            expected: [x.nrows(), x.ncols()],
            got: [dx.nrows(), dx.ncols()],
        });
    }
    let n_rows = rows::per_task(x.ncols());
    let tasks: Vec<_> = dout
        .axis_chunks_iter(Axis(0), n_rows)
        .zip(x.axis_chunks_iter(Axis(0), n_rows))
        .zip(dx.axis_chunks_iter_mut(Axis(0), n_rows))
        .collect();
    threads::for_each(tasks, |((dout, x), mut dx)| {
        let (mut dout_buffer, mut x_buffer, mut dx_buffer) = (Vec::new(), Vec::new(), Vec::new());
        simd::vectorize(
            #[inline(always)]
            || {
                let inputs = dout.rows().into_iter().zip(x.rows());
                for ((dout, x), dx) in inputs.zip(dx.rows_mut()) {
                    let dout = rows::read(dout, &mut dout_buffer);
                    let x = rows::read(x, &mut x_buffer);
                    rows::write(
                        dx,
                        &mut dx_buffer,
                        #[inline(always)]
                        |dx| backward_row(dout, x, packing, dx),
                    );
                }
            },
        );
    });
    Ok(())
}

/// `d_ff` of an array with packed columns.
fn packed<F>(x: &ArrayRef2<F>) -> Result<usize, FfnError> {
    if x.ncols() % 2 == 1 {
        return Err(FfnError::PackedLen(x.ncols()));
    }
    Ok(x.ncols() / 2)
}

#[inline(always)]
fn apply_row<F: Float>(x: &[F], packing: GluPacking, out: &mut [F]) {
    let (first, second) = x.split_at(out.len());
    match packing {
        GluPacking::GateUp => apply_halves(first, second, out),
        GluPacking::UpGate => apply_halves(second, first, out),
        GluPacking::Interleaved => {
            for (out, &[gate, up]) in out.iter_mut().zip(x.as_chunks::<2>().0) {
                *out = silu::value(gate) * up;
            }
        }
    }
}

#[inline(always)]
fn apply_halves<F: Float>(gate: &[F], up: &[F], out: &mut [F]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = silu::value(gate) * up;
    }
}

#[inline(always)]
fn backward_row<F: Float>(dout: &[F], x: &[F], packing: GluPacking, dx: &mut [F]) {
    let (first, second) = x.split_at(dout.len());
    let (dfirst, dsecond) = dx.split_at_mut(dout.len());
    match packing {
        GluPacking::GateUp => backward_halves(dout, first, second, dfirst, dsecond),
        GluPacking::UpGate => backward_halves(dout, second, first, dsecond, dfirst),
        GluPacking::Interleaved => {
            let pairs = x.as_chunks::<2>().0;
            let dpairs = dx.as_chunks_mut::<2>().0;
            for ((dpair, &[gate, up]), &dout) in dpairs.iter_mut().zip(pairs).zip(dout) {
                *dpair = gradient(dout, gate, up).into();
            }
        }
    }
}

#[inline(always)]
fn backward_halves<F: Float>(dout: &[F], gate: &[F], up: &[F], dgate: &mut [F], dup: &mut [F]) {
    let inputs = dout.iter().zip(gate).zip(up);
    for ((dgate, dup), ((&dout, &gate), &up)) in dgate.iter_mut().zip(dup).zip(inputs) {
        (*dgate, *dup) = gradient(dout, gate, up);
    }
}

/// `dgate` and `dup`.
#[inline(always)]
fn gradient<F: Float>(dout: F, gate: F, up: F) -> (F, F) {
    let (s, rest) = silu::sigmoids(gate);
    let silu = gate * s;
    (dout * up * (s + silu * rest), dout * silu)
}
