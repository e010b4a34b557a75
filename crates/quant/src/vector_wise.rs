//! Eight bits an element, one scale a row; columns with outliers are kept apart.

use llm_numerics::{Storage, simd, threads};
use ndarray::{Array2, ArrayRef2};

use crate::QuantError;
use crate::four_bit::NonFinite;
use crate::four_bit::blocks::{self, filled, first_error, row_major, zeros};

/// Elements of a task.
const TASK: usize = 1 << 16;
/// The largest code.
const LARGEST: f32 = 127.0;

/// A matrix with a code from -127 to 127 for each element and a scale for each row.
///
/// There are as many scales as rows: the constructors check it.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorWise {
    codes: Array2<i8>,
    scales: Vec<f32>,
}

impl VectorWise {
    /// Codes and scales from elsewhere.
    ///
    /// # Shapes
    ///
    /// - `codes`: `[rows, columns]`
    /// - `scales`: `[rows]`
    ///
    /// # Errors
    ///
    /// - [`QuantError::RowScales`] if there is not one scale for each row.
    /// - [`QuantError::RowCode`] if a code is -128.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::QuantError;
    /// use llm_quant::vector_wise::VectorWise;
    /// use ndarray::array;
    ///
    /// let rows = VectorWise::from_parts(array![[127, 0], [1, -127]], vec![2.0, 0.5])?;
    /// assert_eq!((rows.shape(), rows.bytes()), ([2, 2], 4 + 2 * 4));
    /// let refused = VectorWise::from_parts(array![[127, -128]], vec![2.0]);
    /// assert_eq!(refused, Err(QuantError::RowCode { index: 1, got: -128 }));
    /// # Ok::<(), llm_quant::QuantError>(())
    /// ```
    pub fn from_parts(codes: Array2<i8>, scales: Vec<f32>) -> Result<Self, QuantError> {
        if codes.nrows() != scales.len() {
            return Err(QuantError::RowScales {
                expected: codes.nrows(),
                got: scales.len(),
            });
        }
        let codes = match codes.is_standard_layout() {
            true => codes,
            false => codes.as_standard_layout().into_owned(),
        };
        match codes.iter().position(|&code| code == i8::MIN) {
            Some(index) => Err(QuantError::RowCode {
                index,
                got: i8::MIN,
            }),
            None => Ok(Self { codes, scales }),
        }
    }

    /// One code for each element.
    #[must_use]
    #[doc(alias = "CB")]
    pub fn codes(&self) -> &Array2<i8> {
        &self.codes
    }

    /// The largest magnitude of each row.
    #[must_use]
    #[doc(alias = "SCB")]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// `[rows, columns]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.codes.dim().into()
    }

    /// Bytes of codes and scales together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.codes.len() + size_of_val(&self.scales[..])
    }

    /// The codes in row-major order: they lie so.
    pub(crate) fn slice(&self) -> &[i8] {
        self.codes.as_slice().unwrap_or(&[])
    }
}

/// Settings of [`quantize_inputs`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct InputConfig {
    /// Magnitude from which on an element is an outlier; 0 for none. The paper takes 6.
    #[doc(alias = "llm_int8_threshold")]
    pub threshold: f32,
    /// What to do with NaN and infinities, where a block is a row; [`NonFinite::Refuse`] unless set.
    pub non_finite: NonFinite,
}

impl InputConfig {
    /// A threshold.
    #[must_use]
    pub const fn new(threshold: f32) -> Self {
        Self {
            threshold,
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

/// A matrix without its columns of outliers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WithoutOutliers {
    /// All columns; those of outliers have codes 0.
    pub rows: VectorWise,
    /// Columns with outliers, ascending.
    pub outliers: Vec<usize>,
}

/// Quantizes each row of a matrix to integers from -127 to 127; a row is what the policy for NaN and infinities calls a block.
///
/// ```text
/// scale_i = max_j |x_ij|
/// code_ij = round(127 x_ij / scale_i)
/// ```
///
/// # Shapes
///
/// - `x`: `[rows, columns]`, any strides
///
/// # Errors
///
/// - [`QuantError::NonFinite`] if an element is NaN or infinite and the policy is [`NonFinite::Refuse`].
/// - [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// The bits of bitsandbytes 0.50.2 on the CPU: elements are multiplied by `1 / scale · 127` in `f32`, halves go to the even integer. Its layers round weights to
/// `f16` first. Rows of zeros have scale 0 and codes 0. Where that factor is infinite, below 3.8e-37, elements are divided.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::NonFinite;
/// use llm_quant::vector_wise;
/// use ndarray::array;
///
/// let x = array![[127.0_f32, -64.5, 0.4], [0.0, 0.0, 0.0]];
/// let rows = vector_wise::quantize(&x, NonFinite::Refuse)?;
/// assert_eq!(rows.codes(), array![[127, -64, 0], [0, 0, 0]]); // the half to the even integer
/// assert_eq!(rows.scales(), [127.0, 0.0]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2022, arXiv:2208.07339v2 §3.1; bitsandbytes 0.50.2, `int8_vectorwise_quant`.
pub fn quantize<S: Storage>(
    x: &ArrayRef2<S>,
    non_finite: NonFinite,
) -> Result<VectorWise, QuantError> {
    let config = InputConfig::new(0.0).with_non_finite(non_finite);
    Ok(quantize_inputs(x, &config)?.rows)
}

/// Quantizes rows like [`quantize`], but leaves out columns that have a magnitude of at least `threshold`; 0 leaves out none.
///
/// A row that comes back as NaN has no outliers. Elements from the threshold on do not count for the scale of their row. The other elements of their columns do, as in bitsandbytes, though all of
/// the column has code 0.
///
/// # Shapes
///
/// - `x`: `[rows, columns]`, any strides
///
/// # Errors
///
/// - [`QuantError::Threshold`] if `threshold` is negative, NaN or infinite.
/// - [`QuantError::NonFinite`] if an element is NaN or infinite and the policy is [`NonFinite::Refuse`].
/// - [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// That of [`quantize`].
///
/// # Example
///
/// ```
/// use llm_quant::vector_wise::{self, InputConfig};
/// use ndarray::array;
///
/// let x = array![[1.0_f32, -7.0, 0.5], [2.0, 0.1, -1.0]];
/// let split = vector_wise::quantize_inputs(&x, &InputConfig::new(6.0))?;
/// assert_eq!(split.outliers, [1]);
/// assert_eq!(split.rows.scales(), [1.0, 2.0]);
/// assert_eq!(split.rows.codes().column(1), array![0, 0]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2022, arXiv:2208.07339v2 §3.2; bitsandbytes 0.50.2, `int8_vectorwise_quant`.
pub fn quantize_inputs<S: Storage>(
    x: &ArrayRef2<S>,
    config: &InputConfig,
) -> Result<WithoutOutliers, QuantError> {
    let InputConfig {
        threshold,
        non_finite,
    } = *config;
    if !(threshold >= 0.0 && threshold.is_finite()) {
        return Err(QuantError::Threshold { got: threshold });
    }
    let [n_rows, n_columns] = x.dim().into();
    let elements = row_major(x)?;
    let mut codes = zeros::<i8>(elements.len())?;
    let mut scales = zeros::<f32>(n_rows)?;
    let limit = if threshold > 0.0 {
        threshold
    } else {
        f32::INFINITY
    };
    let mut is_outlier = zeros::<bool>(if n_rows == 0 { 0 } else { n_columns })?;
    if !elements.is_empty() {
        let rows = TASK.checked_div(n_columns).unwrap_or(0).max(1);
        let tasks: Vec<_> = { elements.chunks(rows * n_columns) }
            .zip(codes.chunks_mut(rows * n_columns))
            .zip(scales.chunks_mut(rows))
            .enumerate()
            .collect();
        let results = threads::map(tasks, |(task, ((elements, codes), scales))| {
            let found = task_of_rows(elements, codes, scales, limit, non_finite);
            found.map_err(|(index, value)| (task * rows * n_columns + index, value))
        });
        first_error(
            results
                .iter()
                .map(|result| result.as_ref().err().copied())
                .collect(),
        )?;
        for column in results.into_iter().flatten().flatten() {
            is_outlier[column] = true;
        }
    }
    let columns = is_outlier.iter().enumerate();
    let outliers: Vec<usize> = columns.filter_map(|(i, &is)| is.then_some(i)).collect();
    if !outliers.is_empty() {
        for row in codes.chunks_mut(n_columns) {
            for &column in &outliers {
                row[column] = 0;
            }
        }
    }
    let codes =
        Array2::from_shape_vec([n_rows, n_columns], codes).map_err(|_| QuantError::Size {
            shape: vec![n_rows, n_columns],
        })?;
    let rows = VectorWise { codes, scales };
    Ok(WithoutOutliers { rows, outliers })
}

/// The numbers that codes stand for: `x_ij = code_ij · scale_i / 127`.
///
/// # Shapes
///
/// - returns: `[rows, columns]`
///
/// # Errors
///
/// [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// The bits of bitsandbytes 0.50.2: two products in `f32`, the second one by 1/127 rounded; then rounded to `S`.
///
/// # Example
///
/// ```
/// use llm_quant::vector_wise::{self, VectorWise};
/// use ndarray::array;
///
/// let rows = VectorWise::from_parts(array![[127, 0], [0, -127]], vec![2.0, 0.5])?;
/// let back = vector_wise::dequantize::<f32>(&rows)?;
/// let exact = array![[2.0, 0.0], [0.0, -0.5]];
/// assert!((back - exact).iter().all(|error| error.abs() < 1e-6));
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// bitsandbytes 0.50.2, `int8_vectorwise_dequant`.
pub fn dequantize<S: Storage>(rows: &VectorWise) -> Result<Array2<S>, QuantError> {
    let [n_rows, n_columns] = rows.shape();
    let mut numbers = filled(S::from_f32(0.0), rows.slice().len())?;
    if n_columns > 0 {
        let all = numbers
            .chunks_mut(n_columns)
            .zip(rows.slice().chunks(n_columns));
        let tasks: Vec<_> = all.zip(&rows.scales).collect();
        threads::for_each(tasks, |((out, codes), &scale)| {
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = S::from_f32(value(code, scale));
            }
        });
    }
    Array2::from_shape_vec([n_rows, n_columns], numbers).map_err(|_| QuantError::Size {
        shape: vec![n_rows, n_columns],
    })
}

/// What a code stands for.
#[inline(always)]
pub(crate) fn value(code: i8, scale: f32) -> f32 {
    f32::from(code) * scale * (1.0 / LARGEST)
}

/// Codes and scales of some rows. Returns columns with outliers, or place and value of the first element that is not finite.
fn task_of_rows<S: Storage>(
    elements: &[S],
    codes: &mut [i8],
    scales: &mut [f32],
    limit: f32,
    non_finite: NonFinite,
) -> Result<Vec<usize>, (usize, f32)> {
    let n_columns = elements.len() / scales.len();
    let mut outliers = Vec::new();
    let mut is_outlier = vec![false; n_columns];
    let mut numbers = vec![0.0_f32; n_columns];
    let rows = elements.chunks(n_columns).zip(codes.chunks_mut(n_columns));
    for (i, ((elements, codes), stored)) in rows.zip(scales).enumerate() {
        for (to, from) in numbers.iter_mut().zip(elements) {
            *to = from.to_f32();
        }
        let largest = blocks::largest(&numbers);
        if !largest.is_finite() {
            if non_finite == NonFinite::PoisonBlock {
                *stored = f32::NAN; // codes are 0, and stay so
                continue;
            }
            let mut all = numbers.iter().copied().enumerate();
            let (column, value) = all.find(|(_, x)| !x.is_finite()).unwrap_or_default();
            return Err((i * n_columns + column, value));
        }
        let scale = if largest < limit {
            largest
        } else {
            for (column, x) in numbers.iter_mut().enumerate() {
                if x.abs() >= limit {
                    *x = 0.0;
                    if !is_outlier[column] {
                        is_outlier[column] = true;
                        outliers.push(column);
                    }
                }
            }
            blocks::largest(&numbers)
        };
        *stored = scale;
        simd::vectorize(|| encode(&numbers, scale, codes));
    }
    Ok(outliers)
}

#[inline(always)]
fn encode(numbers: &[f32], scale: f32, codes: &mut [i8]) {
    let factor = 1.0 / scale * LARGEST; // torch has no other way to divide a number by an array
    if factor.is_finite() {
        for (code, x) in codes.iter_mut().zip(numbers) {
            *code = (x * factor).round_ties_even() as i8;
        }
    } else if scale > 0.0 {
        for (code, x) in codes.iter_mut().zip(numbers) {
            *code = (x / scale * LARGEST).round_ties_even() as i8;
        }
    }
}
