//! Values learnt from weights by Lloyd's iterations.

use llm_numerics::{Storage, threads};
use ndarray::{ArrayRef, Dimension};

use super::{CodeBook, scale_block};
use crate::QuantError;
use crate::four_bit::blocks::{TASK, first_error, row_major};
use crate::four_bit::{NonFinite, check_block};

/// Settings of [`learn`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LearnConfig {
    /// The values to start with.
    pub start: CodeBook,
    /// Elements that share a scale, one of [`BLOCKS`](crate::four_bit::BLOCKS).
    pub block: usize,
    /// Iterations at most; 20 unless set.
    pub n_iterations: usize,
    /// What to do with NaN and infinities; [`NonFinite::Refuse`] unless set. Blocks that come back as NaN teach nothing.
    pub non_finite: NonFinite,
}

impl LearnConfig {
    /// Twenty iterations from a code book on, in blocks of so many elements.
    #[must_use]
    pub const fn new(start: CodeBook, block: usize) -> Self {
        Self {
            start,
            block,
            n_iterations: 20,
            non_finite: NonFinite::Refuse,
        }
    }

    /// Sets [`n_iterations`](Self::n_iterations).
    #[must_use]
    pub const fn with_iterations(mut self, n_iterations: usize) -> Self {
        self.n_iterations = n_iterations;
        self
    }

    /// Sets [`non_finite`](Self::non_finite).
    #[must_use]
    pub const fn with_non_finite(mut self, non_finite: NonFinite) -> Self {
        self.non_finite = non_finite;
        self
    }
}

/// The sum of what fell to each code: weight times number, and weight.
type Cells = [[f64; 2]; 16];

/// Moves the values of a code book to where numbers fall, so that the square error of the numbers gets less.
///
/// Numbers are scaled to `[-1, 1]` in blocks, as when they are quantized. In each iteration they fall to the nearest value, and each value moves to
/// the mean of what fell to it, weighted by the square of the scale:
///
/// ```text
/// v_k ← Σ_i scale_i² s_i / Σ_i scale_i²  over all i with code k,   s_i = x_i / scale_i
/// ```
///
/// That is the value with the least `Σ_i (x_i - scale_i v_k)²`. The ends and 0 stay, and so does a value to which nothing falls. No iteration makes the error larger,
/// but for the rounding of values to `f32`; iterations stop early where nothing moves.
///
/// # Shapes
///
/// - `x`: any, zero-length axes too
///
/// # Errors
///
/// - [`QuantError::Block`] if `block` is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
/// - [`QuantError::NonFinite`] if an element is NaN or infinite and the policy is [`NonFinite::Refuse`].
/// - [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// Sums in `f64`, added up in one order for any number of threads.
///
/// # Example
///
/// ```
/// use llm_quant::code_book::{self, CodeBook, CodeBookConfig, LearnConfig};
/// use llm_quant::{nf4, report};
/// use ndarray::Array1;
///
/// let x = Array1::from_shape_fn(4096, |i| ((i * 37 % 101) as f32 / 50.0 - 1.0)); // uniform: NF4 is made for others
/// let nf4 = CodeBook::new(nf4::code())?;
/// let learnt = code_book::learn(&x, &LearnConfig::new(nf4, 64))?;
/// let error = |book: CodeBook| {
///     let back = code_book::dequantize::<f32>(&code_book::quantize(&x, &CodeBookConfig::new(book, 64))?)?;
///     Ok(report::compare(&x.clone().into_dyn(), &back)?.mean_square)
/// };
/// assert!(error(learnt)? < 0.8 * error(nf4)?);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Lloyd 1982, Least squares quantization in PCM, IEEE Trans. Inf. Theory 28, method I.
pub fn learn<S: Storage, D: Dimension>(
    x: &ArrayRef<S, D>,
    config: &LearnConfig,
) -> Result<CodeBook, QuantError> {
    let LearnConfig {
        start: mut book,
        block,
        n_iterations,
        non_finite,
    } = *config;
    check_block(block)?;
    let elements = row_major(x)?;
    for _ in 0..n_iterations {
        let tasks: Vec<_> = elements.chunks(TASK).enumerate().collect();
        let parts = threads::map(tasks, |(task, elements)| {
            cells(elements, block, &book, non_finite)
                .map_err(|(index, value)| (task * TASK + index, value))
        });
        first_error(
            parts
                .iter()
                .map(|part| part.as_ref().err().copied())
                .collect(),
        )?;
        let mut sums: Cells = [[0.0; 2]; 16];
        for part in parts.into_iter().flatten() {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum[0] += part[0];
                sum[1] += part[1];
            }
        }
        let next = moved(&book, &sums);
        if next == book {
            break;
        }
        book = next;
    }
    Ok(book)
}

/// What falls to each code.
fn cells<S: Storage>(
    elements: &[S],
    block: usize,
    book: &CodeBook,
    non_finite: NonFinite,
) -> Result<Cells, (usize, f32)> {
    let mut cells: Cells = [[0.0; 2]; 16];
    let mut scaled = [0.0; 4096];
    for (b, elements) in elements.chunks(block).enumerate() {
        let scaled = &mut scaled[..elements.len()];
        let scale = scale_block(elements, block, scaled, non_finite);
        // The numbers of a block that comes back as NaN are 0 here, and the value 0 stays.
        let scale = scale.map_err(|(index, value)| (b * block + index, value))?;
        let weight = f64::from(scale) * f64::from(scale);
        for &x in &*scaled {
            let cell = &mut cells[usize::from(book.nearest(x))];
            cell[0] += weight * f64::from(x);
            cell[1] += weight;
        }
    }
    Ok(cells)
}

/// Values at the means of their cells. They stay in order, because cells do; where rounding would make two the same, the book stays as it is.
fn moved(book: &CodeBook, sums: &Cells) -> CodeBook {
    let mut values = book.values;
    for (value, [sum, weight]) in values.iter_mut().zip(sums) {
        let is_fixed = *value == 0.0 || value.abs() == 1.0;
        if !is_fixed && *weight > 0.0 {
            *value = (sum / weight) as f32;
        }
    }
    CodeBook::new(values).unwrap_or(*book)
}
