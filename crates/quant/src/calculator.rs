//! What quantized weights weigh.

use crate::QuantError;
use crate::double::NESTED_BLOCK;
use crate::four_bit::check_block;

/// Bits a weight for codes and scales together.
///
/// ```text
/// plain:   bits + 32 / block
/// nested:  bits + 8 / block + 32 / (block · 256)
/// ```
///
/// The offset of nested scales, one number a tensor, is left out, as in the paper.
///
/// # Errors
///
/// [`QuantError::Block`] if `block` is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
///
/// # Precision
///
/// Exact: blocks are powers of two.
///
/// # Example
///
/// ```
/// use llm_quant::calculator::{ScaleStorage, bits_per_weight};
///
/// let plain = bits_per_weight(4, 64, ScaleStorage::Plain)?;
/// let nested = bits_per_weight(4, 64, ScaleStorage::Nested)?;
/// assert_eq!((plain, nested), (4.5, 4.126_953_125));
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2023, arXiv:2305.14314v1 §3: from 0.5 to 0.127 bits a weight.
pub fn bits_per_weight(bits: u32, block: usize, scales: ScaleStorage) -> Result<f64, QuantError> {
    Ok(f64::from(bits) + scale_bits(block, scales)?)
}

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScaleStorage {
    /// One `f32` for each block.
    Plain,
    /// Quantized once more, see [`double`](crate::double).
    Nested,
}

// ANCHOR: scales
fn scale_bits(block: usize, scales: ScaleStorage) -> Result<f64, QuantError> {
    check_block(block)?;
    let block = block as f64;
    Ok(match scales {
        ScaleStorage::Plain => 32.0 / block,
        ScaleStorage::Nested => 8.0 / block + 32.0 / (block * NESTED_BLOCK as f64),
    })
}
// ANCHOR_END: scales

/// Bits a weight that double quantization saves.
///
/// # Errors
///
/// [`QuantError::Block`] if `block` is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
///
/// # Precision
///
/// Exact, as [`bits_per_weight`].
///
/// # Example
///
/// The figures of the paper: 0.37 bits a weight, 3 GB for a model with 65 billion.
///
/// ```
/// use llm_quant::calculator::bits_saved;
///
/// let bits = bits_saved(64)?;
/// assert_eq!((bits * 100.0).round() / 100.0, 0.37);
/// assert_eq!((65e9 * bits / 8.0 / 1e9).round(), 3.0);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn bits_saved(block: usize) -> Result<f64, QuantError> {
    Ok(scale_bits(block, ScaleStorage::Plain)? - scale_bits(block, ScaleStorage::Nested)?)
}

/// Bytes of one tensor of `n_weights` in four bits each: codes, scales, and the offset of nested scales.
///
/// # Errors
///
/// [`QuantError::Block`] if `block` is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
///
/// # Precision
///
/// Exact; what does not fit 64 bits cannot occur, as less than a byte and an eighth more is needed for a weight.
///
/// # Example
///
/// ```
/// use llm_quant::calculator::{ScaleStorage, four_bit_bytes};
///
/// // A layer of 4096 by 4096.
/// assert_eq!(four_bit_bytes(1 << 24, 64, ScaleStorage::Plain)?, 9_437_184);
/// assert_eq!(four_bit_bytes(1 << 24, 64, ScaleStorage::Nested)?, 8_654_852);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn four_bit_bytes(
    n_weights: u64,
    block: usize,
    scales: ScaleStorage,
) -> Result<u64, QuantError> {
    check_block(block)?;
    let n_blocks = n_weights.div_ceil(block as u64);
    let scales = match scales {
        ScaleStorage::Plain => 4 * n_blocks,
        ScaleStorage::Nested => n_blocks + 4 * n_blocks.div_ceil(NESTED_BLOCK as u64) + 4,
    };
    Ok(n_weights.div_ceil(2) + scales)
}
