//! Four bits an element, one scale a block.

pub(crate) mod blocks;
pub(crate) mod dequantize;
mod quantize;

use std::sync::LazyLock;

use llm_numerics::simd::Sixteen;

use crate::double::NestedScales;
use crate::{QuantError, fp4, nf4};

pub use dequantize::{dequantize, dequantize_into};
pub use quantize::quantize;

/// The block sizes that are offered, in elements: those of bitsandbytes.
pub const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Which sixteen values the codes stand for.
///
/// Packed weights do not say which: read with the other code they give plausible nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FourBitCode {
    /// Quantiles of the normal distribution, see [`nf4`].
    Nf4,
    /// Sign, exponent and mantissa, see [`fp4`].
    Fp4,
}

impl FourBitCode {
    /// The value of each code.
    #[must_use]
    pub fn values(self) -> [f32; 16] {
        *self.table().numbers.values()
    }

    pub(crate) fn table(self) -> &'static Table {
        static NF4: LazyLock<Table> = LazyLock::new(|| Table::new(nf4::code()));
        static FP4: LazyLock<Table> = LazyLock::new(|| Table::new(fp4::code()));
        match self {
            Self::Nf4 => &NF4,
            Self::Fp4 => &FP4,
        }
    }
}

/// A code with what the search for the nearest value needs.
#[derive(Debug)]
pub(crate) struct Table {
    /// The value of each code.
    pub(crate) numbers: Sixteen,
    /// Midpoints between neighboring values, ascending.
    pub(crate) bounds: [f32; 15],
    /// The codes in the order of their values.
    pub(crate) order: [u8; 16],
}

impl Table {
    fn new(values: [f32; 16]) -> Self {
        let mut order: [u8; 16] = core::array::from_fn(|i| i as u8);
        // A zero with a sign comes after the one without, so that only numbers above zero get it.
        order.sort_by(|&a, &b| {
            let [x, y] = [a, b].map(|code| values[usize::from(code)]);
            x.partial_cmp(&y).unwrap_or(core::cmp::Ordering::Equal)
        });
        let bounds = core::array::from_fn(|i| {
            let [low, high] = [order[i], order[i + 1]].map(|code| values[usize::from(code)]);
            (low + high) / 2.0
        });
        Self {
            numbers: Sixteen::new(values),
            bounds,
            order,
        }
    }
}

/// What to do with weights that are NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NonFinite {
    /// An error that names the first one.
    #[default]
    Refuse,
    /// The scale of its block becomes NaN, so the whole block comes back as NaN.
    PoisonBlock,
}

/// Settings of a quantization to four bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FourBitConfig {
    /// Which sixteen values.
    #[doc(alias = "quant_type")]
    pub code: FourBitCode,
    /// Elements that share a scale, one of [`BLOCKS`].
    #[doc(alias = "blocksize")]
    pub block: usize,
    /// What to do with NaN and infinities; [`NonFinite::Refuse`] unless set.
    pub non_finite: NonFinite,
}

impl FourBitConfig {
    /// A code and a block size in elements; bitsandbytes takes blocks of 64 unless told otherwise.
    #[must_use]
    pub const fn new(code: FourBitCode, block: usize) -> Self {
        Self {
            code,
            block,
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

/// The scales of the blocks, in the order of the blocks.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Scales {
    /// One `f32` for each block: the largest magnitude in it.
    Plain(Vec<f32>),
    /// Quantized once more, see [`double`](crate::double).
    Nested(NestedScales),
}

impl Scales {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(scales) => scales.len(),
            Self::Nested(nested) => nested.len(),
        }
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As many scales as `out` takes, from number `start` on.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn fill(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::Plain(scales) => out.copy_from_slice(&scales[start..start + out.len()]),
            Self::Nested(nested) => nested.fill(start, out),
        }
    }

    /// Scale number `i`.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[inline]
    pub(crate) fn at(&self, i: usize) -> f32 {
        match self {
            Self::Plain(scales) => scales[i],
            Self::Nested(nested) => nested.at(i),
        }
    }
}

/// Weights of any shape in four bits each: packed codes, scales, and what is needed to read them.
///
/// There are as many bytes and scales as the shape needs: the constructors check it.
#[derive(Clone, Debug, PartialEq)]
pub struct FourBit {
    code: FourBitCode,
    block: usize,
    shape: Vec<usize>,
    packed: Vec<u8>,
    scales: Scales,
}

impl FourBit {
    /// Packed weights from elsewhere.
    ///
    /// # Shapes
    ///
    /// - `packed`: half as many as there are elements, rounded up; elements in row-major order, the earlier of two in the high nibble
    /// - `scales`: one for each block of the elements in row-major order, the last of which may be shorter
    ///
    /// # Errors
    ///
    /// - [`QuantError::Block`] if `block` is not one of [`BLOCKS`].
    /// - [`QuantError::Size`] if the product of `shape` does not fit.
    /// - [`QuantError::PackedLen`] or [`QuantError::ScalesLen`] if there are more or fewer than the shape needs.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::four_bit::{self, FourBit, FourBitCode, Scales};
    ///
    /// // 1, -1 and 0, with an odd one out: the last low nibble is padding.
    /// let packed = vec![0xf0, 0x77];
    /// let weights = FourBit::from_parts(FourBitCode::Nf4, 64, &[3], packed, Scales::Plain(vec![2.0]))?;
    /// assert_eq!(four_bit::dequantize::<f32>(&weights)?.as_slice(), Some(&[2.0, -2.0, 0.0][..]));
    /// # Ok::<(), llm_quant::QuantError>(())
    /// ```
    pub fn from_parts(
        code: FourBitCode,
        block: usize,
        shape: &[usize],
        packed: Vec<u8>,
        scales: Scales,
    ) -> Result<Self, QuantError> {
        check_block(block)?;
        let len = elements(shape)?;
        let expected = len.div_ceil(2);
        if packed.len() != expected {
            return Err(QuantError::PackedLen {
                shape: shape.to_vec(),
                expected,
                got: packed.len(),
            });
        }
        let expected = len.div_ceil(block);
        if scales.len() != expected {
            return Err(QuantError::ScalesLen {
                block,
                expected,
                got: scales.len(),
            });
        }
        Ok(Self {
            code,
            block,
            shape: shape.to_vec(),
            packed,
            scales,
        })
    }

    /// Which sixteen values the codes stand for.
    #[must_use]
    pub fn code(&self) -> FourBitCode {
        self.code
    }

    /// Elements that share a scale.
    #[must_use]
    pub fn block(&self) -> usize {
        self.block
    }

    /// Shape of the weights.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of weights.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product() // fits: the constructors checked it
    }

    /// True if there are no weights.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Two codes a byte, the earlier element in the high nibble.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The scales of the blocks.
    #[must_use]
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// Bytes of codes and scales together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.packed.len()
            + match &self.scales {
                Scales::Plain(scales) => size_of_val(&scales[..]),
                Scales::Nested(nested) => nested.bytes(),
            }
    }

    /// The same weights with other scales of the same number.
    pub(crate) fn with_scales(self, scales: Scales) -> Self {
        Self { scales, ..self }
    }
}

pub(crate) fn check_block(block: usize) -> Result<(), QuantError> {
    if BLOCKS.contains(&block) {
        return Ok(());
    }
    Err(QuantError::Block {
        offered: &BLOCKS,
        got: block,
    })
}

/// The product of a shape. Zero-length axes do not hide a product of the others that does not fit: no array has such a shape.
pub(crate) fn elements(shape: &[usize]) -> Result<usize, QuantError> {
    let mut without_zeros = shape.iter().filter(|&&len| len > 0);
    let product = without_zeros
        .try_fold(1_usize, |product, &len| product.checked_mul(len))
        .filter(|&product| product <= isize::MAX as usize)
        .ok_or_else(|| QuantError::Size {
            shape: shape.to_vec(),
        })?;
    Ok(if shape.contains(&0) { 0 } else { product })
}
