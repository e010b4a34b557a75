//! Sixteen values of one's own: AF4, or learnt from the weights.

mod learn;

use llm_numerics::{Storage, simd, threads};
use ndarray::{ArrayD, ArrayRef, Dimension};

use crate::QuantError;
use crate::four_bit::blocks::{TASK, filled, first_error, row_major, scale, zeros};
use crate::four_bit::{NonFinite, check_block, elements};

pub use learn::{LearnConfig, learn};

/// Sixteen values from -1 to 1, ascending, with both ends and 0 among them.
///
/// So the largest magnitude of a block comes back as it was, and 0 as 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeBook {
    values: [f32; 16],
    /// Midpoints between neighbors.
    bounds: [f32; 15],
}

impl CodeBook {
    /// Values of one's own, as those of [`af4`](crate::af4) or [`nf4`](crate::nf4).
    ///
    /// # Errors
    ///
    /// [`QuantError::CodeBook`] if they are not finite and ascending from -1 to 1 with 0 among them.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::code_book::CodeBook;
    ///
    /// assert!(CodeBook::new(llm_quant::nf4::code()).is_ok());
    /// assert!(CodeBook::new(llm_quant::fp4::code()).is_err()); // not ascending
    /// ```
    pub fn new(values: [f32; 16]) -> Result<Self, QuantError> {
        let is_ascending = values.windows(2).all(|pair| pair[0] < pair[1]);
        if !is_ascending || values[0] != -1.0 || values[15] != 1.0 || !values.contains(&0.0) {
            return Err(QuantError::CodeBook { got: values });
        }
        Ok(Self::from_values(values))
    }

    fn from_values(values: [f32; 16]) -> Self {
        Self {
            values,
            bounds: core::array::from_fn(|i| (values[i] + values[i + 1]) / 2.0),
        }
    }

    /// The value of each code.
    #[must_use]
    pub fn values(&self) -> &[f32; 16] {
        &self.values
    }

    /// The code whose value is nearest to a number, the lower one of two.
    #[inline(always)]
    fn nearest(&self, x: f32) -> u8 {
        let mut above = 0;
        for &bound in &self.bounds {
            above += u8::from(x > bound);
        }
        above
    }
}

/// Settings of a quantization with values of one's own.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CodeBookConfig {
    /// The sixteen values.
    pub book: CodeBook,
    /// Elements that share a scale, one of [`BLOCKS`](crate::four_bit::BLOCKS).
    pub block: usize,
    /// What to do with NaN and infinities; [`NonFinite::Refuse`] unless set.
    pub non_finite: NonFinite,
}

impl CodeBookConfig {
    /// Values and a block size in elements.
    #[must_use]
    pub const fn new(book: CodeBook, block: usize) -> Self {
        Self {
            book,
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

/// Numbers of any shape in four bits each with sixteen values of one's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    book: CodeBook,
    block: usize,
    shape: Vec<usize>,
    packed: Vec<u8>,
    scales: Vec<f32>,
}

impl Coded {
    /// Packed codes and scales from elsewhere.
    ///
    /// # Shapes
    ///
    /// - `packed`: half as many as there are elements, rounded up; elements in row-major order, the earlier of two in the high nibble
    /// - `scales`: one for each block of the elements in row-major order, the last of which may be shorter
    ///
    /// # Errors
    ///
    /// - [`QuantError::Block`] if `block` is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
    /// - [`QuantError::Size`] if the product of `shape` does not fit.
    /// - [`QuantError::PackedLen`] or [`QuantError::ScalesLen`] if there are more or fewer than the shape needs.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::code_book::{CodeBook, Coded};
    /// use llm_quant::{QuantError, nf4};
    ///
    /// let book = CodeBook::new(nf4::code())?;
    /// let coded = Coded::from_parts(book, 64, &[3], vec![0x0f, 0x70], vec![2.0])?;
    /// assert_eq!(coded.bytes(), 16 * 4 + 2 + 4);
    /// let missing = Coded::from_parts(book, 64, &[3], vec![0x0f], vec![2.0]);
    /// assert!(matches!(missing, Err(QuantError::PackedLen { expected: 2, got: 1, .. })));
    /// # Ok::<(), llm_quant::QuantError>(())
    /// ```
    pub fn from_parts(
        book: CodeBook,
        block: usize,
        shape: &[usize],
        packed: Vec<u8>,
        scales: Vec<f32>,
    ) -> Result<Self, QuantError> {
        check_block(block)?;
        let len = elements(shape)?;
        if packed.len() != len.div_ceil(2) {
            return Err(QuantError::PackedLen {
                shape: shape.to_vec(),
                expected: len.div_ceil(2),
                got: packed.len(),
            });
        }
        if scales.len() != len.div_ceil(block) {
            return Err(QuantError::ScalesLen {
                block,
                expected: len.div_ceil(block),
                got: scales.len(),
            });
        }
        Ok(Self {
            book,
            block,
            shape: shape.to_vec(),
            packed,
            scales,
        })
    }

    /// The sixteen values.
    #[must_use]
    pub fn book(&self) -> &CodeBook {
        &self.book
    }

    /// Elements that share a scale.
    #[must_use]
    pub fn block(&self) -> usize {
        self.block
    }

    /// Shape of the numbers.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Two codes a byte, the earlier element in the high nibble.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// One scale for each block.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Bytes of values, codes and scales together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&self.book.values) + self.packed.len() + size_of_val(&self.scales[..])
    }
}

/// Quantizes numbers in blocks of their row-major order, as [`four_bit::quantize`](crate::four_bit::quantize) does, with values of one's own.
///
/// # Shapes
///
/// - `x`: any, zero-length axes too
///
/// # Errors
///
/// - [`QuantError::Block`] if the block size is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
/// - [`QuantError::NonFinite`] if an element is NaN or infinite and the policy is [`NonFinite::Refuse`].
/// - [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// That of [`four_bit::quantize`](crate::four_bit::quantize): with the values of NF4 codes, bytes and scales are the same.
///
/// # Example
///
/// ```
/// use llm_quant::code_book::{self, CodeBook, CodeBookConfig};
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::nf4;
/// use ndarray::Array1;
///
/// let x = Array1::from_shape_fn(200, |i| (i as f32 * 0.7).sin());
/// let ours = code_book::quantize(&x, &CodeBookConfig::new(CodeBook::new(nf4::code())?, 64))?;
/// let theirs = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// assert_eq!(ours.packed(), theirs.packed());
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn quantize<S: Storage, D: Dimension>(
    x: &ArrayRef<S, D>,
    config: &CodeBookConfig,
) -> Result<Coded, QuantError> {
    let CodeBookConfig {
        book,
        block,
        non_finite,
    } = *config;
    check_block(block)?;
    let elements = row_major(x)?;
    let mut packed = zeros::<u8>(elements.len().div_ceil(2))?;
    let mut scales = zeros::<f32>(elements.len().div_ceil(block))?;
    let tasks: Vec<_> = { elements.chunks(TASK) }
        .zip(packed.chunks_mut(TASK / 2))
        .zip(scales.chunks_mut(TASK / block))
        .enumerate()
        .collect();
    let errors = threads::map(tasks, |(task, ((elements, packed), scales))| {
        let mut scaled = [0.0; 4096];
        let blocks = elements.chunks(block).zip(packed.chunks_mut(block / 2));
        for (b, ((elements, packed), stored)) in blocks.zip(scales).enumerate() {
            let scaled = &mut scaled[..elements.len()];
            match scale_block(elements, block, scaled, non_finite) {
                Ok(scale) => *stored = scale,
                Err((index, value)) => return Some((task * TASK + b * block + index, value)),
            }
            simd::vectorize(|| encode(scaled, &book, packed));
        }
        None
    });
    first_error(errors)?;
    Coded::from_parts(book, block, x.shape(), packed, scales)
}

/// The numbers that codes stand for: `x_i = value(code_i) · scale_b`.
///
/// # Shapes
///
/// - returns: the shape of the numbers
///
/// # Errors
///
/// [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// One product in `f32`, rounded to `S`.
///
/// # Example
///
/// ```
/// use llm_quant::code_book::{self, CodeBook, Coded};
/// use llm_quant::nf4;
/// use ndarray::arr1;
///
/// let book = CodeBook::new(nf4::code())?;
/// let coded = Coded::from_parts(book, 64, &[3], vec![0x0f, 0x70], vec![2.0])?; // codes 0, 15 and 7
/// assert_eq!(code_book::dequantize::<f32>(&coded)?, arr1(&[-2.0, 2.0, 0.0]).into_dyn());
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn dequantize<S: Storage>(coded: &Coded) -> Result<ArrayD<S>, QuantError> {
    let len = coded.shape.iter().product(); // fits: the constructors checked it
    let mut out = filled(S::from_f32(0.0), len)?;
    let tasks: Vec<_> = out.chunks_mut(TASK).enumerate().collect();
    threads::for_each(tasks, |(task, out)| {
        for (i, out) in (task * TASK..).zip(out) {
            let byte = coded.packed[i / 2];
            let code = if i % 2 == 0 { byte >> 4 } else { byte & 15 };
            let value = coded.book.values[usize::from(code)];
            *out = S::from_f32(value * coded.scales[i / coded.block]);
        }
    });
    ArrayD::from_shape_vec(&coded.shape[..], out).map_err(|_| QuantError::Size {
        shape: coded.shape.clone(),
    })
}

/// Copies a block and scales it to `[-1, 1]`; returns its scale.
fn scale_block<S: Storage>(
    elements: &[S],
    block: usize,
    scaled: &mut [f32],
    non_finite: NonFinite,
) -> Result<f32, (usize, f32)> {
    for (to, from) in scaled.iter_mut().zip(elements) {
        *to = from.to_f32();
    }
    scale(scaled, elements.len() == block, non_finite)
}

/// The codes of scaled numbers, two a byte; a missing one at the end counts as 0.
#[inline(always)]
fn encode(scaled: &[f32], book: &CodeBook, packed: &mut [u8]) {
    for (byte, pair) in packed.iter_mut().zip(scaled.chunks(2)) {
        let low = pair.get(1).copied().unwrap_or(0.0);
        *byte = book.nearest(pair[0]) << 4 | book.nearest(low);
    }
}
