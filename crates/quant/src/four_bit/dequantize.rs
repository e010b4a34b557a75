//! From codes to numbers.

use core::any::Any;

use llm_numerics::simd::Sixteen;
use llm_numerics::{Storage, simd, threads};
use ndarray::{ArrayD, ArrayRef, Dimension};

use super::FourBit;
use super::blocks::{TASK, filled};
use crate::QuantError;

/// The numbers that packed weights stand for.
///
/// ```text
/// x_i = value(code_i) · scale_b,  b the block of i
/// ```
///
/// # Shapes
///
/// - returns: the shape of the weights
///
/// # Errors
///
/// [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// One product in `f32`, rounded to `S`: the bits of bitsandbytes on the CPU.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use ndarray::array;
///
/// let x = array![0.5_f32, -0.25, 0.0];
/// let weights = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Fp4, 32))?;
/// assert_eq!(four_bit::dequantize::<f32>(&weights)?, x.into_dyn()); // FP4 has 1, -1/2 and 0
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// bitsandbytes 0.50.2, `dequantize_4bit`.
pub fn dequantize<S: Storage>(weights: &FourBit) -> Result<ArrayD<S>, QuantError> {
    let mut out = filled(S::from_f32(0.0), weights.len())?;
    fill(weights, &mut out);
    ArrayD::from_shape_vec(weights.shape(), out).map_err(|_| QuantError::Size {
        shape: weights.shape().to_vec(),
    })
}

/// [`dequantize`] into an array of any strides.
///
/// # Shapes
///
/// - `out`: the shape of the weights
///
/// # Errors
///
/// - [`QuantError::OutShape`] if `out` has another shape.
/// - [`QuantError::TooLarge`] if `out` is not in row-major order and there is no memory for a copy.
///
/// # Precision
///
/// As [`dequantize`].
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use ndarray::{Array2, array};
///
/// let x = array![[0.5_f32, -0.25], [0.0, 0.5]];
/// let weights = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Fp4, 32))?;
/// let mut out = Array2::<f32>::ones([2, 3]);
/// four_bit::dequantize_into(&weights, &mut out.slice_mut(ndarray::s![.., ..2]))?;
/// assert_eq!(out, array![[0.5, -0.25, 1.0], [0.0, 0.5, 1.0]]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn dequantize_into<S: Storage, D: Dimension>(
    weights: &FourBit,
    out: &mut ArrayRef<S, D>,
) -> Result<(), QuantError> {
    if out.shape() != weights.shape() {
        return Err(QuantError::OutShape {
            expected: weights.shape().to_vec(),
            got: out.shape().to_vec(),
        });
    }
    if let Some(out) = out.as_slice_mut() {
        fill(weights, out);
        return Ok(());
    }
    let numbers = dequantize::<S>(weights)?;
    for (out, &x) in out.iter_mut().zip(&numbers) {
        *out = x;
    }
    Ok(())
}

fn fill<S: Storage>(weights: &FourBit, out: &mut [S]) {
    let tasks: Vec<_> = out.chunks_mut(TASK).enumerate().collect();
    threads::for_each(tasks, |(task, out)| {
        simd::vectorize(
            #[inline(always)]
            || decode_run(weights, task * TASK, out),
        );
    });
}

/// The elements from number `start` on, in row-major order, across as many blocks as `out` takes. Call it inside
/// [`simd::vectorize`].
///
/// # Panics
///
/// If `out` goes beyond the last element.
#[inline(always)]
pub(crate) fn decode_run<S: Storage>(weights: &FourBit, start: usize, out: &mut [S]) {
    let (block, numbers) = (weights.block(), &weights.code().table().numbers);
    let (mut at, mut rest) = (start, out);
    while !rest.is_empty() {
        let n = rest.len().min(block - at % block);
        let (now, later) = rest.split_at_mut(n);
        let scale = weights.scales().at(at / block);
        decode_block(weights.packed(), at, numbers, scale, now);
        (at, rest) = (at + n, later);
    }
}

/// Elements of one block.
#[inline(always)]
fn decode_block<S: Storage>(
    packed: &[u8],
    start: usize,
    numbers: &Sixteen,
    scale: f32,
    out: &mut [S],
) {
    let number = |code: u8| S::from_f32(numbers.values()[usize::from(code)] * scale);
    let (mut out, mut start) = (out, start);
    if start % 2 == 1
        && let [first, rest @ ..] = out
    {
        *first = number(packed[start / 2] & 15);
        (out, start) = (rest, start + 1);
    }
    let bytes = &packed[start / 2..][..out.len().div_ceil(2)];
    let (sixteens, last_bytes) = bytes.as_chunks::<16>();
    let (outs, last) = out.as_chunks_mut::<32>();
    for (out, bytes) in outs.iter_mut().zip(sixteens) {
        if let Some(out) = (out as &mut dyn Any).downcast_mut::<[f32; 32]>() {
            numbers.decode(bytes, scale, out);
        } else {
            let mut wide = [0.0; 32];
            numbers.decode(bytes, scale, &mut wide);
            simd::narrow(&wide, out);
        }
    }
    // A last chunk of 31 elements has as many bytes as one of 32.
    let last_bytes = sixteens
        .get(outs.len())
        .map_or(last_bytes, |bytes| &bytes[..]);
    for (pair, &byte) in last.chunks_mut(2).zip(last_bytes) {
        for (out, code) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *out = number(code);
        }
    }
}
