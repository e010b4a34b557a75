//! Products with packed weights, which are never unpacked as a whole.

use llm_numerics::{gemm, simd, threads};
use ndarray::{Array2, ArrayRef2, ArrayView2, ArrayViewMut2, Axis};

use crate::QuantError;
use crate::four_bit::FourBit;
use crate::four_bit::blocks::{row_major, zeros};
use crate::four_bit::dequantize::decode_run;

/// Rows of `x` from which on a tile of weights is unpacked for all of them: below it each row of weights is used as it is unpacked.
const MANY: usize = 5;
/// Elements of an unpacked tile: 64 KiB, which stay in the second-level cache.
const TILE: usize = 1 << 14;
/// Multiply-adds of a task.
const TASK: usize = 1 << 18;

/// The product of a layer with packed weights, `y = x Wᵀ`.
///
/// ```text
/// y_tj = Σ_i x_ti · value(code_ji) · scale_(block of ji)
/// ```
///
/// # Shapes
///
/// - `x`: `[seq, d_in]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - returns: `[seq, d_out]`
///
/// # Errors
///
/// - [`QuantError::WeightRank`] if the weights are not a matrix.
/// - [`QuantError::InnerAxis`] if `d_in` of `x` and of the weights differ.
/// - [`QuantError::Size`] or [`QuantError::TooLarge`] if the result, or a copy of an `x` that is not in row-major order, does not fit.
///
/// # Precision
///
/// Each weight is rounded to `f32` as in [`four_bit::dequantize`](crate::four_bit::dequantize), each sum is `d_in` products in `f32`. For a
/// few rows of `x` in eight partial sums, for more in the order of the matrix product: the last bits of a row depend on how many rows there are, but
/// not on the number of threads. Memory beyond the result: one row of weights or 64 KiB a thread, whichever is more.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::matmul;
/// use ndarray::array;
///
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]]; // [d_out, d_in]: all of them values of NF4
/// let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let x = array![[1.0, 2.0, 3.0]]; // [seq, d_in]
/// assert_eq!(matmul::forward(&x, &packed)?, array![[-1.0, 5.0]]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2023, arXiv:2305.14314v1, eq. 5; bitsandbytes 0.50.2, `gemm_4bit`.
pub fn forward(x: &ArrayRef2<f32>, weights: &FourBit) -> Result<Array2<f32>, QuantError> {
    let [d_out, d_in] = axes(x, weights, 1)?;
    let seq = x.nrows();
    if seq == 0 || d_out == 0 || d_in == 0 {
        return matrix(seq, d_out);
    }
    let x = row_major(x)?;
    let x = view(seq, d_in, &x)?;
    let mut out = matrix(seq, d_out)?;
    let rows = rows_of_a_task(seq, d_out, d_in);
    let tasks: Vec<_> = out
        .axis_chunks_iter_mut(Axis(1), rows)
        .enumerate()
        .collect();
    let results = threads::map(tasks, |(task, mut out)| {
        if seq < MANY {
            few(&x, weights, task * rows, &mut out)
        } else {
            many(&x, weights, task * rows, &mut out)
        }
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(out)
}

/// The gradient of [`forward`] to its input, `dx = dout W`. Packed weights have none.
///
/// # Shapes
///
/// - `dout`: `[seq, d_out]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - returns: `[seq, d_in]`
///
/// # Errors
///
/// - [`QuantError::WeightRank`] if the weights are not a matrix.
/// - [`QuantError::InnerAxis`] if `d_out` of `dout` and of the weights differ.
/// - [`QuantError::Size`] or [`QuantError::TooLarge`] if the result does not fit.
///
/// # Precision
///
/// Sums of `d_out` products in `f32`, tile after tile of weights. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::matmul;
/// use ndarray::array;
///
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]];
/// let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let dout = array![[1.0, 10.0]];
/// assert_eq!(matmul::backward(&dout, &packed)?, array![[1.0, 9.0, 10.0]]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn backward(dout: &ArrayRef2<f32>, weights: &FourBit) -> Result<Array2<f32>, QuantError> {
    let [d_out, d_in] = axes(dout, weights, 0)?;
    let seq = dout.nrows();
    let mut dx = matrix(seq, d_in)?;
    if dx.is_empty() || d_out == 0 {
        return Ok(dx);
    }
    // Each task has some columns of dx, and goes through the rows of the weights.
    let columns = rows_of_a_task(seq, d_in, d_out).next_multiple_of(16);
    let tasks: Vec<_> = dx
        .axis_chunks_iter_mut(Axis(1), columns)
        .enumerate()
        .collect();
    let results = threads::map(tasks, |(task, mut dx)| {
        let width = dx.ncols();
        let height = (TILE / width).clamp(1, d_out);
        let mut tile = zeros::<f32>(width * height)?;
        for first in (0..d_out).step_by(height) {
            let height = height.min(d_out - first);
            let tile = &mut tile[..width * height];
            simd::vectorize(|| {
                for (j, row) in tile.chunks_exact_mut(width).enumerate() {
                    decode_run(weights, (first + j) * d_in + task * columns, row);
                }
            });
            let tile = view(height, width, tile)?;
            let part = dout.slice_axis(Axis(1), (first..first + height).into());
            gemm::general_matmul(1.0, &part, &tile, 1.0, &mut dx).map_err(unexpected)?;
        }
        Ok(())
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(dx)
}

/// `[d_out, d_in]` of weights whose axis `inner` is as long as the columns of `x`.
fn axes(x: &ArrayRef2<f32>, weights: &FourBit, inner: usize) -> Result<[usize; 2], QuantError> {
    let &[d_out, d_in] = weights.shape() else {
        return Err(QuantError::WeightRank {
            shape: weights.shape().to_vec(),
        });
    };
    if x.ncols() != weights.shape()[inner] {
        return Err(QuantError::InnerAxis {
            x: [x.nrows(), x.ncols()],
            weights: [d_out, d_in],
        });
    }
    Ok([d_out, d_in])
}

/// How many rows of weights (of `n` in all, each of `length`) a task gets. Depends on the shapes alone.
fn rows_of_a_task(seq: usize, n: usize, length: usize) -> usize {
    let work = seq.saturating_mul(length).max(1);
    (TASK / work).clamp(8, n.max(8))
}

/// One row of weights after the other, unpacked and used at once.
fn few(
    x: &ArrayView2<'_, f32>,
    weights: &FourBit,
    first: usize,
    out: &mut ArrayViewMut2<'_, f32>,
) -> Result<(), QuantError> {
    let d_in = x.ncols();
    let mut row = zeros::<f32>(d_in)?;
    let x: Vec<&[f32]> = x.as_slice().unwrap_or(&[]).chunks_exact(d_in).collect();
    let mut sums = [0.0; MANY];
    for (j, mut out) in out.columns_mut().into_iter().enumerate() {
        simd::vectorize(|| one(weights, (first + j) * d_in, &mut row, &x, &mut sums));
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum;
        }
    }
    Ok(())
}

/// The products of one row of weights with the rows of `x`.
#[inline(always)]
fn one(weights: &FourBit, start: usize, row: &mut [f32], x: &[&[f32]], sums: &mut [f32; MANY]) {
    decode_run(weights, start, row);
    for (sum, x) in sums.iter_mut().zip(x) {
        let [[product]] = simd::dots([&*row], [x]);
        *sum = product;
    }
}

/// A tile of some rows of weights after the other, each multiplied with all of `x`.
fn many(
    x: &ArrayView2<'_, f32>,
    weights: &FourBit,
    first: usize,
    out: &mut ArrayViewMut2<'_, f32>,
) -> Result<(), QuantError> {
    let d_in = x.ncols();
    let height = (TILE / d_in).clamp(1, out.ncols());
    let mut tile = zeros::<f32>(height * d_in)?;
    let mut at = first;
    for mut out in out.axis_chunks_iter_mut(Axis(1), height) {
        let tile = &mut tile[..out.ncols() * d_in];
        simd::vectorize(|| decode_run(weights, at * d_in, tile));
        at += out.ncols();
        let tile = view(out.ncols(), d_in, tile)?;
        gemm::general_matmul(1.0, x, &tile.t(), 0.0, &mut out).map_err(unexpected)?;
    }
    Ok(())
}

/// A matrix of zeros, or an error where it does not fit.
fn matrix(rows: usize, columns: usize) -> Result<Array2<f32>, QuantError> {
    let size = || QuantError::Size {
        shape: vec![rows, columns],
    };
    let len = rows.checked_mul(columns).ok_or_else(size)?;
    Array2::from_shape_vec([rows, columns], zeros(len)?).map_err(|_| size())
}

fn view(rows: usize, columns: usize, data: &[f32]) -> Result<ArrayView2<'_, f32>, QuantError> {
    ArrayView2::from_shape([rows, columns], data).map_err(|_| QuantError::Size {
        shape: vec![rows, columns],
    })
}

/// The shapes are ours, so the product cannot refuse them.
fn unexpected(_: llm_numerics::NumericsError) -> QuantError {
    QuantError::Size { shape: Vec::new() }
}
