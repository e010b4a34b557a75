//! From numbers to codes.

use llm_numerics::{Storage, simd, threads};
use ndarray::{ArrayRef, Dimension};

use super::blocks::{TASK, first_error, row_major, scale, zeros};
use super::{FourBit, FourBitConfig, Scales, Table, check_block};
use crate::QuantError;

/// Quantizes weights in blocks of their row-major order.
///
/// ```text
/// scale_b = max |x_i|  over block b
/// code_i  = the code whose value is nearest to x_i / scale_b
/// ```
///
/// Halfway between two values the lower one is taken. A block may run over the end of a row.
///
/// # Shapes
///
/// - `x`: any, zero-length axes too
///
/// # Errors
///
/// - [`QuantError::Block`] if the block size is not one of [`BLOCKS`](super::BLOCKS).
/// - [`QuantError::NonFinite`] if an element is NaN or infinite and the policy is [`NonFinite::Refuse`](super::NonFinite::Refuse).
/// - [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// Codes, bytes and scales have the bits of bitsandbytes 0.50.2 on the CPU: elements are widened to `f32` and multiplied by the
/// reciprocal of the scale (in a last block that is shorter: divided), and the bounds are the midpoints of the values, all in `f32`. So a
/// value within rounding of a bound may get either neighbor's code. Scales below 1e-38 divide as 1e-38; a short last block of zeros
/// stores 1e-38. FP4 has two zeros: numbers above 0 that are nearest to 0 get the one with a sign, 0 itself and those below it the
/// plain one. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use ndarray::array;
///
/// let x = array![[2.0_f32, -2.0], [0.0, 0.9]];
/// let weights = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// assert_eq!(weights.packed(), [0xf0, 0x7c]); // 0.9 / 2 is nearest to 0.4407
/// let back = four_bit::dequantize::<f32>(&weights)?;
/// assert_eq!(back[[1, 1]], 2.0 * 0.440_709_83);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2023, arXiv:2305.14314v1 §2 and 3; bitsandbytes 0.50.2, `quantize_4bit`.
pub fn quantize<S: Storage, D: Dimension>(
    x: &ArrayRef<S, D>,
    config: &FourBitConfig,
) -> Result<FourBit, QuantError> {
    check_block(config.block)?;
    let elements = row_major(x)?;
    let mut packed = zeros::<u8>(elements.len().div_ceil(2))?;
    let mut scales = zeros::<f32>(elements.len().div_ceil(config.block))?;
    let tasks: Vec<_> = elements
        .chunks(TASK)
        .zip(packed.chunks_mut(TASK / 2))
        .zip(scales.chunks_mut(TASK / config.block))
        .enumerate()
        .collect();
    let table = config.code.table();
    let errors = threads::map(tasks, |(task, ((elements, packed), scales))| {
        let error = quantize_blocks(elements, config, table, packed, scales).err();
        error.map(|(index, value)| (task * TASK + index, value))
    });
    first_error(errors)?;
    FourBit::from_parts(
        config.code,
        config.block,
        x.shape(),
        packed,
        Scales::Plain(scales),
    )
}

fn quantize_blocks<S: Storage>(
    elements: &[S],
    config: &FourBitConfig,
    table: &Table,
    packed: &mut [u8],
    scales: &mut [f32],
) -> Result<(), (usize, f32)> {
    let FourBitConfig {
        block, non_finite, ..
    } = *config;
    let mut scaled = [0.0_f32; 4096];
    let blocks = elements
        .chunks(block)
        .zip(packed.chunks_mut(block / 2))
        .zip(scales);
    for (b, ((elements, packed), stored)) in blocks.enumerate() {
        let scaled = &mut scaled[..elements.len()];
        for (to, from) in scaled.iter_mut().zip(elements) {
            *to = from.to_f32();
        }
        let is_full = elements.len() == block;
        *stored = scale(scaled, is_full, non_finite)
            .map_err(|(index, value)| (b * block + index, value))?;
        encode(scaled, table, packed);
    }
    Ok(())
}

/// The codes of scaled numbers, two a byte; a missing one at the end counts as 0.
fn encode(scaled: &[f32], table: &Table, packed: &mut [u8]) {
    let mut ranks = [0_u8; 64];
    for (scaled, packed) in scaled.chunks(64).zip(packed.chunks_mut(32)) {
        let mut padded = [0.0; 64];
        padded[..scaled.len()].copy_from_slice(scaled);
        simd::vectorize(|| {
            for (rank, &x) in ranks.iter_mut().zip(&padded) {
                let mut above = 0_u32;
                for &bound in &table.bounds {
                    above += u32::from(x > bound);
                }
                *rank = above as u8;
            }
        });
        let (pairs, _) = ranks.as_chunks::<2>();
        for (byte, &[high, low]) in packed.iter_mut().zip(pairs) {
            let [high, low] = [high, low].map(|rank| table.order[usize::from(rank & 15)]);
            *byte = high << 4 | low;
        }
    }
}
