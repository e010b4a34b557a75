//! Integers of four or eight bits with a scale for each block and, where zero need not be in the middle, a zero point.

use llm_numerics::{Storage, simd, threads};
use ndarray::{ArrayD, ArrayRef, Dimension};

use crate::QuantError;
use crate::four_bit::blocks::{filled, first_error, row_major, zeros};
use crate::four_bit::{NonFinite, elements};

/// Elements of a task, if a block has no more.
const TASK: usize = 1 << 16;

/// Bits of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IntegerBits {
    /// Sixteen codes, two a byte.
    Four,
    /// 256 codes.
    Eight,
}

impl IntegerBits {
    /// The largest code.
    const fn largest(self) -> u8 {
        match self {
            Self::Four => 15,
            Self::Eight => 255,
        }
    }

    /// How many codes are in a byte.
    const fn per_byte(self) -> usize {
        match self {
            Self::Four => 2,
            Self::Eight => 1,
        }
    }
}

/// What code 0 stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IntegerScheme {
    /// The zero point is in the middle (8 or 128), and as many codes are above it as below: code 0 is not used.
    Symmetric,
    /// A zero point for each block, so that its smallest and its largest number are the ends, extended to 0.
    Affine,
}

/// Settings of a quantization to integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct IntegerConfig {
    /// Bits of a code.
    pub bits: IntegerBits,
    /// What code 0 stands for.
    pub scheme: IntegerScheme,
    /// Elements that share a scale, any number from 1: of a matrix with `d_in` columns, `d_in` gives a scale for each row, and the number of all elements
    /// one for all.
    pub block: usize,
    /// What to do with NaN and infinities; [`NonFinite::Refuse`] unless set.
    pub non_finite: NonFinite,
}

impl IntegerConfig {
    /// Bits, scheme and block size in elements.
    #[must_use]
    pub const fn new(bits: IntegerBits, scheme: IntegerScheme, block: usize) -> Self {
        Self {
            bits,
            scheme,
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

/// Numbers of any shape as integers.
///
/// There are as many codes, scales and zero points as the shape needs: the constructors check it.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers {
    config: IntegerConfig,
    shape: Vec<usize>,
    packed: Vec<u8>,
    scales: Vec<f32>,
    zero_points: Vec<u8>,
}

impl Integers {
    /// Codes, scales and zero points from elsewhere.
    ///
    /// # Shapes
    ///
    /// - `packed`: a byte for each code, or for two with the earlier one in the high nibble, in row-major order
    /// - `scales`: one for each block of the elements in row-major order, the last of which may be shorter
    /// - `zero_points`: as `scales`, or none if the scheme is symmetric
    ///
    /// # Errors
    ///
    /// - [`QuantError::EmptyBlock`] if the block has no element.
    /// - [`QuantError::Size`] if the product of `shape` does not fit.
    /// - [`QuantError::CodesLen`] or [`QuantError::ScalesLen`] if there are more or fewer than the shape needs.
    /// - [`QuantError::ZeroPointsLen`] if there are more or fewer zero points than the scheme needs, [`QuantError::ZeroPoint`] if one is no code.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::QuantError;
    /// use llm_quant::integer::{IntegerBits, IntegerConfig, IntegerScheme, Integers};
    ///
    /// let config = IntegerConfig::new(IntegerBits::Eight, IntegerScheme::Affine, 4);
    /// let integers = Integers::from_parts(config, &[2], vec![0, 255], vec![0.5], vec![128])?;
    /// assert_eq!(integers.bytes(), 2 + 4 + 1);
    /// let none = Integers::from_parts(config, &[2], vec![0, 255], vec![0.5], vec![]);
    /// assert_eq!(none, Err(QuantError::ZeroPointsLen { expected: 1, got: 0 }));
    /// # Ok::<(), llm_quant::QuantError>(())
    /// ```
    pub fn from_parts(
        config: IntegerConfig,
        shape: &[usize],
        packed: Vec<u8>,
        scales: Vec<f32>,
        zero_points: Vec<u8>,
    ) -> Result<Self, QuantError> {
        check_block(config.block)?;
        let len = elements(shape)?;
        let expected = len.div_ceil(config.bits.per_byte());
        if packed.len() != expected {
            return Err(QuantError::CodesLen {
                shape: shape.to_vec(),
                expected,
                got: packed.len(),
            });
        }
        let n_blocks = len.div_ceil(config.block);
        if scales.len() != n_blocks {
            return Err(QuantError::ScalesLen {
                block: config.block,
                expected: n_blocks,
                got: scales.len(),
            });
        }
        let expected = match config.scheme {
            IntegerScheme::Symmetric => 0,
            IntegerScheme::Affine => n_blocks,
        };
        if zero_points.len() != expected {
            return Err(QuantError::ZeroPointsLen {
                expected,
                got: zero_points.len(),
            });
        }
        let largest = config.bits.largest();
        if let Some(index) = zero_points.iter().position(|&zero| zero > largest) {
            return Err(QuantError::ZeroPoint {
                index,
                largest,
                got: zero_points[index],
            });
        }
        Ok(Self {
            config: config.with_non_finite(NonFinite::Refuse), // it says nothing about integers that are there
            shape: shape.to_vec(),
            packed,
            scales,
            zero_points,
        })
    }

    /// Bits, scheme and block size; the policy is [`NonFinite::Refuse`] whatever it was.
    #[must_use]
    pub fn config(&self) -> &IntegerConfig {
        &self.config
    }

    /// Shape of the numbers.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// One code a byte, or two with the earlier one in the high nibble.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The step of each block.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The code of 0 in each block; none if the scheme is symmetric.
    #[must_use]
    pub fn zero_points(&self) -> &[u8] {
        &self.zero_points
    }

    /// Bytes of codes, scales and zero points together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.packed.len() + size_of_val(&self.scales[..]) + self.zero_points.len()
    }

    fn zero_point(&self, block: usize) -> u8 {
        let middle = self.config.bits.largest() / 2 + 1;
        self.zero_points.get(block).copied().unwrap_or(middle)
    }
}

/// Quantizes numbers to integers in blocks of their row-major order.
///
/// ```text
/// symmetric:  scale = max |x| / n,                        zero = n + 1,  n = 7 or 127
/// affine:     scale = (max(x, 0) - min(x, 0)) / (2n + 1), zero = round(-min(x, 0) / scale)
/// code = round(x / scale) + zero, kept within the codes
/// ```
///
/// # Shapes
///
/// - `x`: any, zero-length axes too
///
/// # Errors
///
/// - [`QuantError::EmptyBlock`] if the block has no element.
/// - [`QuantError::NonFinite`] if an element is NaN or infinite and the policy is [`NonFinite::Refuse`].
/// - [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// The bits of torch 2.15: `MinMaxObserver` with ranges from -7 or -127 (symmetric) or 0 (affine) and no smallest scale, then `fake_quantize`. Elements are multiplied by the
/// reciprocal of the scale in `f32`, or divided where it is infinite; halves go to the even integer. A block of zeros has scale 0.
///
/// # Example
///
/// ```
/// use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme};
/// use ndarray::array;
///
/// let x = array![0.0_f32, 1.0, 2.0, 15.0];
/// let config = IntegerConfig::new(IntegerBits::Four, IntegerScheme::Affine, 4);
/// let integers = integer::quantize(&x, &config)?;
/// assert_eq!(integers.packed(), [0x01, 0x2f]);
/// assert_eq!((integers.scales(), integers.zero_points()), (&[1.0][..], &[0][..]));
/// assert_eq!(integer::dequantize::<f32>(&integers)?, x.into_dyn());
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Jacob et al. 2018, arXiv:1712.05877v1 §2.1; torch 2.15.0, `torch.fake_quantize_per_channel_affine`.
pub fn quantize<S: Storage, D: Dimension>(
    x: &ArrayRef<S, D>,
    config: &IntegerConfig,
) -> Result<Integers, QuantError> {
    check_block(config.block)?;
    let elements = row_major(x)?;
    let block = config.block.min(elements.len().max(1));
    let n_blocks = elements.len().div_ceil(block);
    let mut codes = zeros::<u8>(elements.len())?;
    let mut scales = zeros::<f32>(n_blocks)?;
    let mut zero_points = zeros::<u8>(n_blocks)?;
    let per_task = (TASK / block).max(1);
    let tasks: Vec<_> = { elements.chunks(per_task * block) }
        .zip(codes.chunks_mut(per_task * block))
        .zip(
            scales
                .chunks_mut(per_task)
                .zip(zero_points.chunks_mut(per_task)),
        )
        .enumerate()
        .collect();
    let errors = threads::map(tasks, |(task, ((x, codes), (scales, zero_points)))| {
        let blocks = x.chunks(block).zip(codes.chunks_mut(block));
        for (b, ((x, codes), (scale, zero))) in
            blocks.zip(scales.iter_mut().zip(zero_points)).enumerate()
        {
            if let Some((i, value)) = first_not_finite(x) {
                if config.non_finite == NonFinite::PoisonBlock {
                    // All steps are NaN, whatever their number.
                    (*scale, *zero) = poison(config, codes);
                    continue;
                }
                return Some(((task * per_task + b) * block + i, value));
            }
            (*scale, *zero) = simd::vectorize(|| one_block(x, config, codes));
        }
        None
    });
    first_error(errors)?;
    if config.bits == IntegerBits::Four {
        codes = packed(&codes)?;
    }
    if config.scheme == IntegerScheme::Symmetric {
        zero_points.clear();
    }
    Integers::from_parts(*config, x.shape(), codes, scales, zero_points)
}

/// The numbers that codes stand for: `x_i = (code_i - zero_b) · scale_b`.
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
/// One product in `f32`, rounded to `S`. Numbers within half a step of the largest `f32` may come back infinite.
///
/// # Example
///
/// ```
/// use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme, Integers};
/// use ndarray::arr1;
///
/// // Codes 8 and 11, the first one in the high nibble; the middle of 16 codes is 8.
/// let config = IntegerConfig::new(IntegerBits::Four, IntegerScheme::Symmetric, 2);
/// let integers = Integers::from_parts(config, &[2], vec![0x8b], vec![0.5], vec![])?;
/// assert_eq!(integer::dequantize::<f32>(&integers)?, arr1(&[0.0, 1.5]).into_dyn());
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Jacob et al. 2018, arXiv:1712.05877v1, eq. 1.
pub fn dequantize<S: Storage>(integers: &Integers) -> Result<ArrayD<S>, QuantError> {
    let config = integers.config;
    let len = integers.shape.iter().product(); // fits: the constructors checked it
    let mut out = filled(S::from_f32(0.0), len)?;
    let tasks: Vec<_> = out.chunks_mut(TASK).enumerate().collect();
    threads::for_each(tasks, |(task, out)| {
        for (i, out) in (task * TASK..).zip(out) {
            let code = match config.bits {
                IntegerBits::Eight => integers.packed[i],
                IntegerBits::Four if i % 2 == 0 => integers.packed[i / 2] >> 4,
                IntegerBits::Four => integers.packed[i / 2] & 15,
            };
            let block = i / config.block;
            let steps = i16::from(code) - i16::from(integers.zero_point(block));
            *out = S::from_f32(f32::from(steps) * integers.scales[block]);
        }
    });
    ArrayD::from_shape_vec(&integers.shape[..], out).map_err(|_| QuantError::Size {
        shape: integers.shape.clone(),
    })
}

fn check_block(block: usize) -> Result<(), QuantError> {
    match block {
        0 => Err(QuantError::EmptyBlock),
        _ => Ok(()),
    }
}

fn first_not_finite<S: Storage>(x: &[S]) -> Option<(usize, f32)> {
    let numbers = x.iter().map(|x| x.to_f32()).enumerate();
    { numbers }.find(|(_, x)| !x.is_finite())
}

/// Codes, scale and zero point of a block that comes back as NaN.
fn poison(config: &IntegerConfig, codes: &mut [u8]) -> (f32, u8) {
    let zero = match config.scheme {
        IntegerScheme::Symmetric => config.bits.largest() / 2 + 1,
        IntegerScheme::Affine => 0,
    };
    codes.fill(zero);
    (f32::NAN, zero)
}

/// Codes of a block; returns its scale and its zero point.
#[inline(always)]
fn one_block<S: Storage>(x: &[S], config: &IntegerConfig, codes: &mut [u8]) -> (f32, u8) {
    let largest = f32::from(config.bits.largest());
    let (mut low, mut high) = (0.0_f32, 0.0_f32);
    for x in x {
        low = low.min(x.to_f32());
        high = high.max(x.to_f32());
    }
    let (scale, zero, lowest) = match config.scheme {
        IntegerScheme::Symmetric => {
            let n = (largest - 1.0) / 2.0;
            (high.max(-low) / n, n + 1.0, 1.0)
        }
        IntegerScheme::Affine => {
            let whole = (high - low) / largest;
            // The difference of two large numbers may not fit.
            let scale = match whole.is_finite() {
                true => whole,
                false => high / largest - low / largest,
            };
            let zero = (low / -scale).round_ties_even();
            let is_zero = scale == 0.0;
            (
                scale,
                if is_zero {
                    0.0
                } else {
                    zero.clamp(0.0, largest)
                },
                0.0,
            )
        }
    };
    if scale == 0.0 {
        codes.fill(zero as u8);
        return (scale, zero as u8);
    }
    let factor = 1.0 / scale;
    for (code, x) in codes.iter_mut().zip(x) {
        let x = x.to_f32();
        let steps = if factor.is_finite() {
            x * factor
        } else {
            x / scale
        };
        *code = (steps.round_ties_even() + zero).clamp(lowest, largest) as u8;
    }
    (scale, zero as u8)
}

/// Two codes a byte, the earlier one in the high nibble; a missing one counts as 0.
fn packed(codes: &[u8]) -> Result<Vec<u8>, QuantError> {
    let mut bytes = zeros::<u8>(codes.len().div_ceil(2))?;
    for (byte, pair) in bytes.iter_mut().zip(codes.chunks(2)) {
        *byte = pair[0] << 4 | pair.get(1).copied().unwrap_or(0);
    }
    Ok(bytes)
}
