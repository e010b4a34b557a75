//! Eight bits an element by the dynamic map, one scale a block.

use std::sync::LazyLock;

use llm_numerics::{Storage, threads};
use ndarray::{ArrayD, ArrayRef, Dimension};

use crate::four_bit::blocks::{SMALLEST, TASK, filled, first_error, row_major, scale, zeros};
use crate::four_bit::{NonFinite, check_block, elements};
use crate::{QuantError, dynamic_map};

/// How the code of a number is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EightBitSearch {
    /// The code of the nearest value, the lower one halfway: bitsandbytes on CUDA, and its form in plain torch.
    Nearest,
    /// The code nearest to the middle of one of 65536 equal cells of `[-1, 1]`: the compiled CPU code of bitsandbytes 0.50. It never
    /// finds the values closest to 0, so 0 comes back as 2.1e-5 times the scale, and a block of zeros has code 0.
    BitsandbytesCpu,
}

/// Settings of a quantization to eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EightBitConfig {
    /// How the code of a number is found.
    pub search: EightBitSearch,
    /// Elements that share a scale, one of [`BLOCKS`](crate::four_bit::BLOCKS).
    #[doc(alias = "blocksize")]
    pub block: usize,
    /// What to do with NaN and infinities; [`NonFinite::Refuse`] unless set.
    pub non_finite: NonFinite,
}

impl EightBitConfig {
    /// A search and a block size in elements; bitsandbytes takes 4096 for weights and 256 for optimizer states and scales.
    #[must_use]
    pub const fn new(search: EightBitSearch, block: usize) -> Self {
        Self {
            search,
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

/// Numbers of any shape in eight bits each.
///
/// There is a code for each element and a scale for each block: the constructors check it.
#[derive(Clone, Debug, PartialEq)]
pub struct EightBit {
    block: usize,
    shape: Vec<usize>,
    codes: Vec<u8>,
    scales: Vec<f32>,
}

impl EightBit {
    /// Codes and scales from elsewhere, in row-major order.
    ///
    /// # Errors
    ///
    /// - [`QuantError::Block`] if `block` is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
    /// - [`QuantError::Size`] if the product of `shape` does not fit.
    /// - [`QuantError::CodesLen`] or [`QuantError::ScalesLen`] if there are more or fewer than the shape needs.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::eight_bit::{self, EightBit};
    ///
    /// // Code 255 stands for 1, code 127 for 0.
    /// let numbers = EightBit::from_parts(64, &[2], vec![255, 127], vec![3.0])?;
    /// assert_eq!(eight_bit::dequantize::<f32>(&numbers)?.as_slice(), Some(&[3.0, 0.0][..]));
    /// # Ok::<(), llm_quant::QuantError>(())
    /// ```
    pub fn from_parts(
        block: usize,
        shape: &[usize],
        codes: Vec<u8>,
        scales: Vec<f32>,
    ) -> Result<Self, QuantError> {
        check_block(block)?;
        let len = elements(shape)?;
        if codes.len() != len {
            return Err(QuantError::CodesLen {
                shape: shape.to_vec(),
                expected: len,
                got: codes.len(),
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
            block,
            shape: shape.to_vec(),
            codes,
            scales,
        })
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

    /// One code for each element.
    #[must_use]
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// One scale for each block.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Bytes of codes and scales together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.codes.len() + size_of_val(&self.scales[..])
    }

    /// As many numbers as `out` takes, from number `start` on, each plus `offset`.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn fill(&self, start: usize, offset: f32, out: &mut [f32]) {
        let values = &MAP.values;
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let n = rest.len().min(self.block - at % self.block);
            let (now, later) = rest.split_at_mut(n);
            for (out, &code) in now.iter_mut().zip(&self.codes[at..at + n]) {
                *out = values[usize::from(code)];
            }
            let scale = self.scales[at / self.block];
            for out in now {
                *out = *out * scale + offset;
            }
            (at, rest) = (at + n, later);
        }
    }

    /// Number `i` in row-major order.
    #[inline]
    pub(crate) fn at(&self, i: usize) -> f32 {
        MAP.values[usize::from(self.codes[i])] * self.scales[i / self.block]
    }
}

/// Quantizes numbers in blocks of their row-major order by the signed [`dynamic_map`].
///
/// ```text
/// scale_b = max |x_i|  over block b
/// code_i  = the code whose value is nearest to x_i / scale_b
/// ```
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
/// That of [`four_bit::quantize`](crate::four_bit::quantize), with the midpoints of the map as bounds.
///
/// # Example
///
/// ```
/// use llm_quant::eight_bit::{self, EightBitConfig, EightBitSearch};
/// use ndarray::array;
///
/// let x = array![0.02_f32, -2.0, 0.0, 1.0];
/// let config = EightBitConfig::new(EightBitSearch::Nearest, 256);
/// let quantized = eight_bit::quantize(&x, &config)?;
/// assert_eq!(quantized.codes()[1..3], [0, 127]); // -1 is no value: the nearest is -0.993
/// assert_eq!(eight_bit::dequantize::<f32>(&quantized)?[2], 0.0);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2021, arXiv:2110.02861v2 §2; bitsandbytes 0.50.2, `quantize_blockwise`.
pub fn quantize<S: Storage, D: Dimension>(
    x: &ArrayRef<S, D>,
    config: &EightBitConfig,
) -> Result<EightBit, QuantError> {
    check_block(config.block)?;
    let (codes, scales) = quantize_slice(&row_major(x)?, config)?;
    EightBit::from_parts(config.block, x.shape(), codes, scales)
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
/// use llm_quant::eight_bit::{self, EightBitConfig, EightBitSearch};
/// use ndarray::array;
///
/// let x = array![[2.0_f32, 0.0], [-1.0, 0.5]];
/// let config = EightBitConfig::new(EightBitSearch::Nearest, 64);
/// let back = eight_bit::dequantize::<f32>(&eight_bit::quantize(&x, &config)?)?;
/// assert_eq!((back[[0, 0]], back[[0, 1]]), (2.0, 0.0));
/// assert!((back - x.into_dyn()).iter().all(|error| error.abs() < 0.02));
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// bitsandbytes 0.50.2, `dequantize_blockwise`.
pub fn dequantize<S: Storage>(quantized: &EightBit) -> Result<ArrayD<S>, QuantError> {
    let mut out = filled(S::from_f32(0.0), quantized.codes.len())?;
    let blocks: Vec<_> = out
        .chunks_mut(TASK)
        .zip(quantized.codes.chunks(TASK))
        .zip(quantized.scales.chunks(TASK / quantized.block))
        .collect();
    threads::for_each(blocks, |((out, codes), scales)| {
        let blocks = out
            .chunks_mut(quantized.block)
            .zip(codes.chunks(quantized.block));
        for ((out, codes), scale) in blocks.zip(scales) {
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = S::from_f32(MAP.values[usize::from(code)] * scale);
            }
        }
    });
    ArrayD::from_shape_vec(&quantized.shape[..], out).map_err(|_| QuantError::Size {
        shape: quantized.shape.clone(),
    })
}

/// Codes and scales of numbers in a row.
pub(crate) fn quantize_slice<S: Storage>(
    x: &[S],
    config: &EightBitConfig,
) -> Result<(Vec<u8>, Vec<f32>), QuantError> {
    let mut codes = zeros::<u8>(x.len())?;
    let mut scales = zeros::<f32>(x.len().div_ceil(config.block))?;
    let tasks: Vec<_> = x
        .chunks(TASK)
        .zip(codes.chunks_mut(TASK))
        .zip(scales.chunks_mut(TASK / config.block))
        .enumerate()
        .collect();
    let errors = threads::map(tasks, |(task, ((x, codes), scales))| {
        let error = quantize_blocks(x, config, codes, scales).err();
        error.map(|(index, value)| (task * TASK + index, value))
    });
    first_error(errors)?;
    Ok((codes, scales))
}

/// The code of a number from -1 to 1 that is in a block with a scale of at least [`SMALLEST`].
#[cfg(feature = "gpu")]
pub(crate) fn code_of(x: f32, search: EightBitSearch) -> u8 {
    match search {
        EightBitSearch::Nearest => MAP.nearest(x),
        EightBitSearch::BitsandbytesCpu => MAP.cell(x),
    }
}

fn quantize_blocks<S: Storage>(
    x: &[S],
    config: &EightBitConfig,
    codes: &mut [u8],
    scales: &mut [f32],
) -> Result<(), (usize, f32)> {
    let EightBitConfig {
        search,
        block,
        non_finite,
    } = *config;
    let mut scaled = [0.0_f32; 4096];
    let blocks = x.chunks(block).zip(codes.chunks_mut(block)).zip(scales);
    for (b, ((x, codes), stored)) in blocks.enumerate() {
        let scaled = &mut scaled[..x.len()];
        for (to, from) in scaled.iter_mut().zip(x) {
            *to = from.to_f32();
        }
        // The compiled code multiplies by the reciprocal everywhere.
        let is_full = x.len() == block || search == EightBitSearch::BitsandbytesCpu;
        *stored = scale(scaled, is_full, non_finite)
            .map_err(|(index, value)| (b * block + index, value))?;
        if search == EightBitSearch::BitsandbytesCpu {
            if *stored < SMALLEST {
                // The compiled code knows no smallest scale; its reciprocal may be infinite, then what is 0 gets code 0.
                let factor = 1.0 / *stored;
                for (to, from) in scaled.iter_mut().zip(x) {
                    *to = (from.to_f32() * factor).clamp(-1.0, 1.0);
                }
            }
            for (code, &x) in codes.iter_mut().zip(&*scaled) {
                *code = if *stored == 0.0 { 0 } else { MAP.cell(x) };
            }
        } else {
            for (code, &x) in codes.iter_mut().zip(&*scaled) {
                *code = MAP.nearest(x);
            }
        }
    }
    Ok(())
}

/// Cells of the table of [`EightBitSearch::BitsandbytesCpu`], less one.
const CELLS: f32 = 65535.0;

static MAP: LazyLock<Map> = LazyLock::new(Map::new);

/// The signed dynamic map with what a search needs.
#[derive(Debug)]
struct Map {
    values: [f32; 256],
    /// Midpoints between neighbors.
    bounds: [f32; 255],
    /// For each of 1024 equal parts of `[-1, 1]` the code of its lower edge, where the search starts.
    starts: [u8; 1025],
}

impl Map {
    fn new() -> Self {
        let values = dynamic_map::signed8();
        let bounds = core::array::from_fn(|i| (values[i] + values[i + 1]) / 2.0);
        let starts = core::array::from_fn(|part| {
            let edge = part as f32 / 512.0 - 1.0;
            bounds.partition_point(|&bound| bound < edge) as u8
        });
        Self {
            values,
            bounds,
            starts,
        }
    }

    /// How many bounds are below `x`, which is from -1 to 1.
    fn nearest(&self, x: f32) -> u8 {
        let part = (((x + 1.0) * 512.0) as usize).min(1024);
        // The sum above may round up to the next part, so that the search starts one part earlier.
        let mut code = self.starts[part.saturating_sub(1)];
        while code < 255 && self.bounds[usize::from(code)] < x {
            code += 1;
        }
        code
    }

    fn cell(&self, x: f32) -> u8 {
        let cell = ((x + 1.0) * 0.5 * CELLS + 0.5).floor(); // halves go up
        self.nearest(cell / CELLS * 2.0 - 1.0)
    }
}
