//! Products with packed weights, which are never unpacked as a whole.

mod few;
pub mod low_rank;
mod many;
mod update;

use ndarray::{Array2, ArrayRef2, ArrayView2};

use update::Update;

use crate::QuantError;
use crate::four_bit::FourBit;
use crate::four_bit::blocks::{row_major, zeros};

/// How finely one to four rows of `x` are rounded before they meet 4-bit weights.
///
/// Each 64 elements of a row have a unit of their own, so that what counts is their largest magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActivationBits {
    /// To a `2^26`th of the largest magnitude: no more is lost than a sum in `f32` loses.
    Bits27,
    /// To a 16,383rd of the largest magnitude, and the values of the code to multiples of `2^-14`: products in about half the time. Beside
    /// `bf16` and `f16`, which keep 8 and 11 bits of each element, little is lost; llama.cpp and candle keep 8 bits here.
    Bits15,
}

/// The product of a layer with packed weights, `y = x Wᵀ`: [`forward_rounded`] with [`ActivationBits::Bits27`].
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
/// One to four rows of `x`, where `d_in` and the block are multiples of 64: each 64 elements of `x` are rounded to whole multiples of their
/// largest magnitude's `2^-26` or less, and multiplied exactly with the values of NF4 (those of FP4 are rounded to multiples of `2^-27`), see
/// [`Sixteen::dots`](llm_numerics::simd::Sixteen::dots). A result is off by at most `2^-24` times (`d_in / 64 + 5` times the sum of the magnitudes of
/// all products, and 26 times the sum over each 64 of their largest magnitude times the scale). That is less than other orders of a sum leave, except
/// where an `x` far larger than its neighbors meets weights near 0.
///
/// Elsewhere, also if one of these `x` is not finite or far from the size of other numbers (a largest magnitude of 64 beyond `2^60` or below `2^-60`),
/// each weight is rounded to `f32` as in [`four_bit::dequantize`](crate::four_bit::dequantize), and each sum is `d_in` products in `f32`: for a few
/// rows of `x` in eight partial sums, for more in the order of the matrix product. So the last bits of a row depend on how many rows there are,
/// but not on the number of threads.
///
/// Memory beyond the result: a copy of one to four rows of `x`; 256 KiB, or one row of weights, a thread.
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
    forward_rounded(x, weights, ActivationBits::Bits27)
}

/// [`forward`] with a choice of how finely one to four rows of `x` are rounded.
///
/// # Errors
///
/// Those of [`forward`].
///
/// # Precision
///
/// [`ActivationBits::Bits27`]: see [`forward`]. [`ActivationBits::Bits15`], under the same conditions (one to four rows, axes in multiples of 64,
/// magnitudes of ordinary size; elsewhere both are the same): a result is off by at most the sum, over each 64 elements, of
///
/// ```text
/// scale · (max|x| · Σ|value| / 32,000  +  Σ|x| · 2^-15)
/// ```
///
/// and `2^-24 (d_in / 64 + 5)` times the sum of the magnitudes of all products. With normally distributed `x` and weights that is about `6e-5` of the result's size, root of the mean square.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::matmul::{self, ActivationBits};
/// use ndarray::Array2;
///
/// let w = Array2::from_shape_fn([2, 64], |(j, i)| (j + i) as f32 / 64.0);
/// let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let x = Array2::from_shape_fn([1, 64], |(_, i)| (i % 3) as f32);
/// let fine = matmul::forward(&x, &packed)?;
/// let rounded = matmul::forward_rounded(&x, &packed, ActivationBits::Bits15)?;
/// assert!((&rounded - &fine).iter().all(|off| off.abs() < 1e-3 * fine[[0, 0]]));
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Those of [`forward`]. Whole numbers with a unit for each block of `x`: llama.cpp's `Q8_0` rows beside `Q4_0` weights, in 8 bits.
pub fn forward_rounded(
    x: &ArrayRef2<f32>,
    weights: &FourBit,
    bits: ActivationBits,
) -> Result<Array2<f32>, QuantError> {
    let [d_out, d_in] = axes(x, weights, 1)?;
    if d_out == 0 {
        return matrix(x.nrows(), d_out);
    }
    let rows = row_major(x)?;
    let mut out = matrix(x.nrows(), d_out)?;
    let x = view(x.nrows(), d_in, &rows)?;
    product(&x, weights, bits, None, &mut out)?;
    Ok(out)
}

/// [`forward`] into an array that is there; what it holds is not read.
///
/// # Shapes
///
/// - `x`: `[seq, d_in]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - `out`: `[seq, d_out]`, any strides
///
/// # Errors
///
/// Those of [`forward`], and [`QuantError::OutShape`] if `out` is not `[seq, d_out]`.
///
/// # Precision
///
/// As [`forward`].
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::matmul;
/// use ndarray::{Array2, array};
///
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]];
/// let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let mut y = Array2::zeros([1, 2]); // used again for each token
/// matmul::forward_into(&array![[1.0, 2.0, 3.0]], &packed, &mut y)?;
/// assert_eq!(y, array![[-1.0, 5.0]]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn forward_into(
    x: &ArrayRef2<f32>,
    weights: &FourBit,
    out: &mut ArrayRef2<f32>,
) -> Result<(), QuantError> {
    let [d_out, _] = axes(x, weights, 1)?;
    check_out(out, [x.nrows(), d_out])?;
    product(x, weights, ActivationBits::Bits27, None, out)
}

/// `y = x Wᵀ`, and what is added to it before it is left. The shapes fit.
fn product(
    x: &ArrayRef2<f32>,
    weights: &FourBit,
    bits: ActivationBits,
    update: Option<&Update<'_>>,
    out: &mut ArrayRef2<f32>,
) -> Result<(), QuantError> {
    let (seq, d_in) = x.dim();
    if d_in == 0 {
        out.fill(0.0);
    }
    if out.is_empty() || d_in == 0 {
        return Ok(());
    }
    let x = row_major(x)?;
    if seq < few::ROWS {
        few::forward(&x, weights, bits, update, out)
    } else {
        many::forward(&view(seq, d_in, &x)?, weights, update, out)
    }
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
    gradient(dout, weights, None)
}

/// `dx = dout W`, and what is added to it before it is left. The shapes of the update fit.
fn gradient(
    dout: &ArrayRef2<f32>,
    weights: &FourBit,
    update: Option<&Update<'_>>,
) -> Result<Array2<f32>, QuantError> {
    let [d_out, d_in] = axes(dout, weights, 0)?;
    let mut dx = matrix(dout.nrows(), d_in)?;
    if !dx.is_empty() && d_out > 0 {
        many::backward(dout, weights, update, &mut dx)?;
    }
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

fn check_out(out: &ArrayRef2<f32>, expected: [usize; 2]) -> Result<(), QuantError> {
    if out.shape() != expected {
        return Err(QuantError::OutShape {
            expected: expected.to_vec(),
            got: out.shape().to_vec(),
        });
    }
    Ok(())
}

/// A matrix of zeros, or an error where it does not fit.
pub(crate) fn matrix(rows: usize, columns: usize) -> Result<Array2<f32>, QuantError> {
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
pub(crate) fn unexpected(_: llm_numerics::NumericsError) -> QuantError {
    QuantError::Size { shape: Vec::new() }
}
