//! Products of integers: inputs and weights in eight bits, columns with outliers in floating point.

use llm_numerics::{gemm, simd, threads};
use ndarray::{Array2, ArrayRef2, ArrayView2, ArrayViewMut2, Axis};

use crate::QuantError;
use crate::four_bit::NonFinite;
use crate::four_bit::blocks::zeros;
use crate::matmul::{matrix, unexpected};
use crate::vector_wise::{InputConfig, VectorWise, WithoutOutliers, quantize_inputs, value};

/// `1 / 127²`: what the product of two codes of 127 is multiplied by to be 1.
pub const EXACT_FACTOR: f32 = 1.0 / (127.0 * 127.0);
/// What bitsandbytes 0.50 takes for it in plain torch, as on the CPU: 1.8e-5 of it too large. (Its CUDA code has the exact one.)
pub const BITSANDBYTES_CPU_FACTOR: f32 = 6.200_124e-5;

/// Multiply-adds of a task.
const TASK: usize = 1 << 18;
/// Elements of an unpacked tile.
const TILE: usize = 1 << 14;
/// Products of codes whose sum fits 32 bits: `2^17 · 127² < 2^31`.
const RUN: usize = 1 << 17;

/// Settings of [`forward`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Int8MatmulConfig {
    /// Magnitude of an input from which on its column is multiplied in floating point; 0 for none. The paper takes 6.
    #[doc(alias = "llm_int8_threshold")]
    pub threshold: f32,
    /// What integer products are multiplied by: [`EXACT_FACTOR`], or that of a library.
    pub factor: f32,
    /// What to do with NaN and infinities in inputs, where a block is a row; [`NonFinite::Refuse`] unless set.
    pub non_finite: NonFinite,
}

impl Int8MatmulConfig {
    /// A threshold and a factor.
    #[must_use]
    pub const fn new(threshold: f32, factor: f32) -> Self {
        Self {
            threshold,
            factor,
            non_finite: NonFinite::Refuse,
        }
    }

    /// Sets [`non_finite`](Self::non_finite).
    #[must_use]
    pub const fn with_non_finite(mut self, non_finite: NonFinite) -> Self {
        self.non_finite = non_finite;
        self
    }
}

/// The product of a layer with weights in eight bits, `y ≈ x Wᵀ`.
///
/// ```text
/// y_tj = factor · scale_t · scale_j · Σ_i code_ti · code_ji  +  Σ_c x_tc · w_jc
/// ```
///
/// with `i` over columns without outliers, whose inputs are quantized row by row, and `c` over those with, whose inputs stay as they are and whose
/// weights are dequantized.
///
/// # Shapes
///
/// - `x`: `[seq, d_in]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - returns: `[seq, d_out]`
///
/// # Errors
///
/// - [`QuantError::InnerAxis`] if `d_in` of `x` and of the weights differ.
/// - [`QuantError::Threshold`] or [`QuantError::Factor`] if a setting cannot be.
/// - [`QuantError::NonFinite`] if an element of `x` is NaN or infinite and the policy is [`NonFinite::Refuse`].
/// - [`QuantError::Size`] or [`QuantError::TooLarge`] if the result does not fit.
///
/// # Precision
///
/// Sums of integers are exact, also beyond 32 bits. Then three products and up to four roundings in `f32`, as in bitsandbytes, whose layers round inputs to
/// `f16` first and results to the type of the input. Outliers are `f32` sums. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::NonFinite;
/// use llm_quant::int8_matmul::{self, EXACT_FACTOR, Int8MatmulConfig};
/// use llm_quant::vector_wise;
/// use ndarray::array;
///
/// let w = array![[1.0_f32, -1.0, 0.5], [0.0, 2.0, 1.0]]; // [d_out, d_in]
/// let weights = vector_wise::quantize(&w, NonFinite::Refuse)?;
/// let x = array![[1.0, -2.0, 60.0]]; // the last one is an outlier
/// let config = Int8MatmulConfig::new(6.0, EXACT_FACTOR);
/// let y = int8_matmul::forward(&x, &weights, &config)?;
/// let exact = x.dot(&w.t()); // 33, 56
/// assert!((y - exact).iter().all(|error| error.abs() < 0.5)); // a weight of 1 came back as 128/127
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2022, arXiv:2208.07339v2, eq. 8; bitsandbytes 0.50.2, `int8_mixed_scaled_mm`.
pub fn forward(
    x: &ArrayRef2<f32>,
    weights: &VectorWise,
    config: &Int8MatmulConfig,
) -> Result<Array2<f32>, QuantError> {
    let [d_out, d_in] = axes(x, weights, 1)?;
    if !(config.factor > 0.0 && config.factor.is_finite()) {
        return Err(QuantError::Factor { got: config.factor });
    }
    let seq = x.nrows();
    let mut out = matrix(seq, d_out)?;
    let inputs = InputConfig::new(config.threshold).with_non_finite(config.non_finite);
    let WithoutOutliers { rows, outliers } = quantize_inputs(x, &inputs)?;
    if out.is_empty() || d_in == 0 {
        return Ok(out);
    }
    let codes = widened(rows.slice())?;
    let columns = gathered(x, &outliers)?;
    let per_task = rows_of_a_task(seq, d_out, d_in);
    let chunks = out.axis_chunks_iter_mut(Axis(1), per_task);
    let results = threads::map(chunks.enumerate().collect(), |(task, mut out)| {
        let first = task * per_task;
        let inputs = (&codes[..], rows.scales());
        integers(inputs, weights, first, config.factor, &mut out)?;
        if outliers.is_empty() {
            return Ok(());
        }
        let wide = picked(weights, first, out.ncols(), &outliers)?;
        gemm::general_matmul(1.0, &columns, &wide.t(), 1.0, &mut out).map_err(unexpected)
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(out)
}

/// The gradient to the input of [`forward`], `dx = dout W`, with the weights as they come back. Codes have none, and that inputs are rounded is left
/// out (straight through), as in bitsandbytes.
///
/// # Shapes
///
/// - `dout`: `[seq, d_out]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - returns: `[seq, d_in]`
///
/// # Errors
///
/// - [`QuantError::InnerAxis`] if `d_out` of `dout` and of the weights differ.
/// - [`QuantError::Size`] or [`QuantError::TooLarge`] if the result does not fit.
///
/// # Precision
///
/// Weights as in [`vector_wise::dequantize`](crate::vector_wise::dequantize), sums of `d_out` products in `f32`, tile after tile. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::NonFinite;
/// use llm_quant::{int8_matmul, vector_wise};
/// use ndarray::array;
///
/// let weights = vector_wise::quantize(&array![[127.0_f32, -127.0], [0.0, 254.0]], NonFinite::Refuse)?;
/// let dx = int8_matmul::backward(&array![[1.0, 10.0]], &weights)?;
/// assert!((dx - array![[127.0, 2413.0]]).iter().all(|error: &f32| error.abs() < 1e-3));
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// bitsandbytes 0.50.2, `MatMul8bitLt.backward`.
pub fn backward(dout: &ArrayRef2<f32>, weights: &VectorWise) -> Result<Array2<f32>, QuantError> {
    let [d_out, d_in] = axes(dout, weights, 0)?;
    let seq = dout.nrows();
    let mut dx = matrix(seq, d_in)?;
    if dx.is_empty() || d_out == 0 {
        return Ok(dx);
    }
    // Each task has some columns of dx, and goes through the rows of the weights.
    let per_task = rows_of_a_task(seq, d_in, d_out).next_multiple_of(16);
    let chunks = dx.axis_chunks_iter_mut(Axis(1), per_task);
    let results = threads::map(chunks.enumerate().collect(), |(task, mut dx)| {
        let (start, width) = (task * per_task, dx.ncols());
        let height = (TILE / width).clamp(1, d_out);
        for first in (0..d_out).step_by(height) {
            let wide = tile(weights, first, height.min(d_out - first), start, width)?;
            let part = dout.slice_axis(Axis(1), (first..first + wide.nrows()).into());
            gemm::general_matmul(1.0, &part, &wide, 1.0, &mut dx).map_err(unexpected)?;
        }
        Ok(())
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(dx)
}

/// `[d_out, d_in]` of weights whose axis `inner` is as long as the columns of `x`.
fn axes(x: &ArrayRef2<f32>, weights: &VectorWise, inner: usize) -> Result<[usize; 2], QuantError> {
    let shape = weights.shape();
    if x.ncols() != shape[inner] {
        return Err(QuantError::InnerAxis {
            x: x.dim().into(),
            weights: shape,
        });
    }
    Ok(shape)
}

/// How many rows of weights (of `n` in all, each of `length`) a task gets. Depends on the shapes alone.
fn rows_of_a_task(seq: usize, n: usize, length: usize) -> usize {
    let work = seq.saturating_mul(length).max(1);
    (TASK / work).clamp(8, n.max(8))
}

/// The product of the codes of inputs and of some rows of weights, scaled.
fn integers(
    (codes, scales): (&[i16], &[f32]),
    weights: &VectorWise,
    first: usize,
    factor: f32,
    out: &mut ArrayViewMut2<'_, f32>,
) -> Result<(), QuantError> {
    let [_, d_in] = weights.shape();
    let mut row = zeros::<i16>(d_in)?;
    for (j, mut out) in out.columns_mut().into_iter().enumerate() {
        let w = &weights.slice()[(first + j) * d_in..][..d_in];
        for (wide, &code) in row.iter_mut().zip(w) {
            *wide = code.into();
        }
        let scale = weights.scales()[first + j];
        simd::vectorize(|| {
            for ((out, x), x_scale) in out.iter_mut().zip(codes.chunks_exact(d_in)).zip(scales) {
                *out = sum(&row, x) as f32 * (x_scale * scale) * factor;
            }
        });
    }
    Ok(())
}

// ANCHOR: sum
/// The sum of products of codes.
#[inline(always)]
fn sum(a: &[i16], b: &[i16]) -> i64 {
    let mut sum = 0;
    for (a, b) in a.chunks(RUN).zip(b.chunks(RUN)) {
        let products = a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b));
        sum += i64::from(products.sum::<i32>());
    }
    sum
}
// ANCHOR_END: sum

fn widened(codes: &[i8]) -> Result<Vec<i16>, QuantError> {
    let mut wide = zeros::<i16>(codes.len())?;
    for (wide, &code) in wide.iter_mut().zip(codes) {
        *wide = code.into();
    }
    Ok(wide)
}

/// Some columns of `x`.
fn gathered(x: &ArrayRef2<f32>, columns: &[usize]) -> Result<Array2<f32>, QuantError> {
    let mut out = matrix(x.nrows(), columns.len())?;
    for (mut to, &from) in out.columns_mut().into_iter().zip(columns) {
        to.assign(&x.column(from));
    }
    Ok(out)
}

/// Columns side by side of some rows of weights, as they come back.
fn tile(
    weights: &VectorWise,
    first: usize,
    n_rows: usize,
    start: usize,
    width: usize,
) -> Result<Array2<f32>, QuantError> {
    let [_, d_in] = weights.shape();
    let mut out = zeros::<f32>(n_rows * width)?;
    simd::vectorize(|| {
        for (j, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let codes = &weights.slice()[j * d_in + start..][..width];
            let scale = weights.scales()[j];
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = value(code, scale);
            }
        }
    });
    Array2::from_shape_vec([n_rows, width], out).map_err(|_| QuantError::Size {
        shape: vec![n_rows, width],
    })
}

/// Some columns of some rows of weights, as they come back.
fn picked(
    weights: &VectorWise,
    first: usize,
    n_rows: usize,
    columns: &[usize],
) -> Result<Array2<f32>, QuantError> {
    let mut out = matrix(n_rows, columns.len())?;
    let codes: ArrayView2<'_, i8> = weights.codes().view();
    for (j, mut out) in out.rows_mut().into_iter().enumerate() {
        let (row, scale) = (codes.row(first + j), weights.scales()[first + j]);
        for (out, &column) in out.iter_mut().zip(columns) {
            *out = value(row[column], scale);
        }
    }
    Ok(out)
}
