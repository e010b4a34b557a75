//! Double quantization: the scales of the blocks in eight bits each.

use llm_numerics::simd;

use crate::QuantError;
use crate::eight_bit::{EightBit, EightBitConfig, EightBitSearch, quantize_slice};
use crate::four_bit::blocks::zeros;
use crate::four_bit::{FourBit, Scales};

/// Scales that share a scale of their own. bitsandbytes knows no other number.
pub const NESTED_BLOCK: usize = 256;

/// Scales in eight bits each, in blocks of [`NESTED_BLOCK`], moved by an offset.
#[derive(Clone, Debug, PartialEq)]
pub struct NestedScales {
    moved: EightBit,
    offset: f32,
}

impl NestedScales {
    /// Codes, scales of the scales, and offset from elsewhere.
    ///
    /// # Errors
    ///
    /// [`QuantError::ScalesLen`] if `absmax` has not one entry for every [`NESTED_BLOCK`] codes.
    pub fn from_parts(codes: Vec<u8>, absmax: Vec<f32>, offset: f32) -> Result<Self, QuantError> {
        let shape = [codes.len()];
        let moved = EightBit::from_parts(NESTED_BLOCK, &shape, codes, absmax)?;
        Ok(Self { moved, offset })
    }

    /// One code for each scale.
    #[must_use]
    pub fn codes(&self) -> &[u8] {
        self.moved.codes()
    }

    /// The scale of each [`NESTED_BLOCK`] codes.
    #[must_use]
    #[doc(alias = "nested_absmax")]
    pub fn absmax(&self) -> &[f32] {
        self.moved.scales()
    }

    /// What was subtracted from all scales.
    #[must_use]
    #[doc(alias = "nested_offset")]
    pub fn offset(&self) -> f32 {
        self.offset
    }

    /// How many scales there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.moved.codes().len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of codes, scales of scales and offset.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.moved.bytes() + size_of::<f32>()
    }

    /// As many scales as `out` takes, from number `start` on.
    pub(crate) fn fill(&self, start: usize, out: &mut [f32]) {
        self.moved.fill(start, self.offset, out);
    }

    /// Scale number `i`.
    #[inline]
    pub(crate) fn at(&self, i: usize) -> f32 {
        self.moved.at(i) + self.offset
    }
}

/// Quantizes scales: `scale_i - offset` by the dynamic map in blocks of [`NESTED_BLOCK`], with the mean as offset.
///
/// # Errors
///
/// - [`QuantError::NonFinite`] if a scale, or its difference from the mean, is NaN or infinite.
/// - [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// Differences and codes as [`eight_bit::quantize`](crate::eight_bit::quantize). The mean is a sum in `f32` and one division. The sum has the
/// order of torch 2.15 with eight lanes and one thread, so that the offset has its bits; with wider registers torch adds in another order, and its
/// last bit may differ. Without scales the offset is 0.
///
/// # Example
///
/// ```
/// use llm_quant::double;
/// use llm_quant::eight_bit::EightBitSearch;
///
/// let nested = double::quantize(&[1.0, 3.0], EightBitSearch::Nearest)?;
/// assert_eq!((nested.offset(), nested.absmax()), (2.0, &[1.0][..]));
/// assert_eq!(double::dequantize(&nested)?, [2.0 - 0.992_968_74, 3.0]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2023, arXiv:2305.14314v1 §3; bitsandbytes 0.50.2, `quantize_4bit(compress_statistics=True)`.
pub fn quantize(scales: &[f32], search: EightBitSearch) -> Result<NestedScales, QuantError> {
    let offset = if scales.is_empty() {
        0.0
    } else {
        sum(scales) / scales.len() as f32
    };
    quantize_with_offset(scales, offset, search)
}

/// [`quantize`] with an offset that is given.
///
/// # Errors
///
/// Those of [`quantize`].
///
/// # Precision
///
/// As [`eight_bit::quantize`](crate::eight_bit::quantize).
pub fn quantize_with_offset(
    scales: &[f32],
    offset: f32,
    search: EightBitSearch,
) -> Result<NestedScales, QuantError> {
    let mut moved = zeros::<f32>(scales.len())?;
    for (moved, scale) in moved.iter_mut().zip(scales) {
        *moved = scale - offset;
    }
    let config = EightBitConfig::new(search, NESTED_BLOCK);
    let (codes, absmax) = quantize_slice(&moved, &config)?;
    NestedScales::from_parts(codes, absmax, offset)
}

/// The scales that were quantized: `value(code_i) · absmax_(i / 256) + offset`.
///
/// # Errors
///
/// [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// A product and a sum in `f32`.
pub fn dequantize(nested: &NestedScales) -> Result<Vec<f32>, QuantError> {
    let mut scales = zeros::<f32>(nested.len())?;
    for (i, scale) in scales.iter_mut().enumerate() {
        *scale = nested.at(i);
    }
    Ok(scales)
}

/// The same packed weights with their scales quantized; nested scales stay.
///
/// # Errors
///
/// Those of [`quantize`].
///
/// # Precision
///
/// Weights change as their scales do. Nested scales may come out below zero where all scales are tiny beside their differences.
///
/// # Example
///
/// ```
/// use llm_quant::double;
/// use llm_quant::eight_bit::EightBitSearch;
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use ndarray::Array2;
///
/// let x = Array2::from_shape_fn([512, 64], |(i, j)| (i * 64 + j) as f32);
/// let plain = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let bytes = plain.bytes();
/// let nested = double::compress(plain, EightBitSearch::Nearest)?;
/// // Of 512 scales of 4 bytes each remain 512 codes, two scales and an offset.
/// assert_eq!(bytes - nested.bytes(), 512 * 4 - (512 + 2 * 4 + 4));
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn compress(weights: FourBit, search: EightBitSearch) -> Result<FourBit, QuantError> {
    match weights.scales() {
        Scales::Plain(scales) => {
            let nested = quantize(scales, search)?;
            Ok(weights.with_scales(Scales::Nested(nested)))
        }
        Scales::Nested(_) => Ok(weights),
    }
}

/// Lanes of a register.
pub(crate) const LANES: usize = 8;
/// Registers that are added to side by side.
pub(crate) const ROWS: usize = 4;
/// Levels of the cascade.
pub(crate) const LEVELS: usize = 4;

/// Adds up in the order in which torch does on processors with eight lanes.
fn sum(x: &[f32]) -> f32 {
    if x.len() < LANES {
        let (numbers, _) = x.as_chunks::<1>();
        return cascade(numbers)[0];
    }
    let (vectors, rest) = x.as_chunks::<LANES>();
    let lanes = simd::vectorize(|| cascade(vectors));
    rest.iter().chain(&lanes).fold(0.0, |sum, x| sum + x)
}

/// Sums that move up a level together, as a power of two, where [`ROWS`] vectors take so many turns.
pub(crate) fn power(n_turns: usize) -> usize {
    let bits = n_turns.next_power_of_two().trailing_zeros() as usize;
    (bits / LEVELS).max(4)
}

/// The sum of each lane: four registers take turns; after some additions their sums move up a level, where they meet
/// numbers of their own size.
#[inline(always)]
fn cascade<const L: usize>(vectors: &[[f32; L]]) -> [f32; L] {
    let (turns, left) = vectors.as_chunks::<ROWS>();
    let mut levels = [[[0.0_f32; L]; ROWS]; LEVELS];
    let power = power(turns.len());
    for (i, turn) in turns.iter().enumerate() {
        add(&mut levels[0], turn);
        // A level is handed on each time the one below has taken its fill.
        for level in 1..LEVELS {
            if (i + 1) % (1 << (power * level)) != 0 {
                break;
            }
            let below = core::mem::replace(&mut levels[level - 1], [[0.0; L]; ROWS]);
            add(&mut levels[level], &below);
        }
    }
    let [mut rows, above @ ..] = levels;
    for above in &above {
        add(&mut rows, above);
    }
    let [mut sums, others @ ..] = rows;
    for vector in left.iter().chain(&others) {
        add_lanes(&mut sums, vector);
    }
    sums
}

#[inline(always)]
fn add<const L: usize>(to: &mut [[f32; L]; ROWS], from: &[[f32; L]; ROWS]) {
    for (to, from) in to.iter_mut().zip(from) {
        add_lanes(to, from);
    }
}

#[inline(always)]
fn add_lanes<const L: usize>(to: &mut [f32; L], from: &[f32; L]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
