//! What quantization loses.

use core::ops::RangeInclusive;

#[cfg(feature = "files")]
use llm_numerics::Storage;
use ndarray::{ArrayRef, Dimension};

use crate::QuantError;
use crate::four_bit::blocks::zeros;

/// How far numbers are from what they should be.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ErrorReport {
    /// Numbers that were compared.
    pub n: usize,
    /// The largest difference.
    pub max: f64,
    /// The mean of the squared differences.
    pub mean_square: f64,
    /// The mean of the squares of the exact numbers over [`mean_square`](Self::mean_square), in decibels; infinite where nothing is
    /// lost, NaN where all is zero.
    #[doc(alias = "SQNR")]
    pub signal_to_noise: f64,
}

/// Compares numbers with the exact ones.
///
/// ```text
/// max = max |got - exact|
/// mean_square = mean (got - exact)²
/// signal_to_noise = 10 log₁₀ (mean exact² / mean_square)
/// ```
///
/// # Shapes
///
/// - `exact`, `got`: any, the same, any strides
///
/// # Errors
///
/// [`QuantError::ComparedShapes`] if the shapes differ.
///
/// # Precision
///
/// Sums in `f64`. A NaN anywhere gives NaN; without numbers all is 0 and the ratio NaN.
///
/// # Example
///
/// ```
/// use llm_quant::report;
/// use ndarray::array;
///
/// let report = report::compare(&array![3.0, -4.0, 0.0], &array![3.0, -4.5, 0.0])?;
/// assert_eq!((report.max, report.mean_square), (0.5, 0.25 / 3.0));
/// assert!((report.signal_to_noise - 20.0).abs() < 1e-12); // 25 / 0.25
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn compare<D: Dimension>(
    exact: &ArrayRef<f32, D>,
    got: &ArrayRef<f32, D>,
) -> Result<ErrorReport, QuantError> {
    check_shapes(exact, got)?;
    Ok(of_pairs(exact.iter().copied().zip(got.iter().copied())))
}

/// [`compare`] for each block of the elements in row-major order.
///
/// # Shapes
///
/// - `exact`, `got`: any, the same, any strides
/// - returns: one report for each block, the last of which may be shorter
///
/// # Errors
///
/// - [`QuantError::ComparedShapes`] if the shapes differ.
/// - [`QuantError::EmptyBlock`] if the block has no element.
///
/// # Precision
///
/// That of [`compare`].
///
/// # Example
///
/// ```
/// use llm_quant::report;
/// use ndarray::array;
///
/// let reports = report::by_block(&array![1.0, 2.0, 3.0], &array![1.0, 2.0, 2.5], 2)?;
/// assert_eq!((reports[0].max, reports[1].max, reports[1].n), (0.0, 0.5, 1));
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn by_block<D: Dimension>(
    exact: &ArrayRef<f32, D>,
    got: &ArrayRef<f32, D>,
    block: usize,
) -> Result<Vec<ErrorReport>, QuantError> {
    check_shapes(exact, got)?;
    if block == 0 {
        return Err(QuantError::EmptyBlock);
    }
    let mut pairs = exact.iter().copied().zip(got.iter().copied());
    let n_blocks = exact.len().div_ceil(block);
    let mut reports = Vec::new();
    reports
        .try_reserve_exact(n_blocks)
        .map_err(|_| QuantError::TooLarge { elements: n_blocks })?;
    reports.extend((0..n_blocks).map(|_| of_pairs(pairs.by_ref().take(block))));
    Ok(reports)
}

fn check_shapes<D: Dimension>(
    exact: &ArrayRef<f32, D>,
    got: &ArrayRef<f32, D>,
) -> Result<(), QuantError> {
    if exact.shape() == got.shape() {
        return Ok(());
    }
    Err(QuantError::ComparedShapes {
        exact: exact.shape().to_vec(),
        got: got.shape().to_vec(),
    })
}

fn of_pairs(pairs: impl Iterator<Item = (f32, f32)>) -> ErrorReport {
    let mut sums = Sums::default();
    for (exact, got) in pairs {
        sums.add(exact, got);
    }
    sums.report()
}

/// What a report is made of, so that it can be of several arrays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    n: usize,
    max: f64,
    noise: f64,
    signal: f64,
}

impl Sums {
    // ANCHOR: pairs
    #[inline]
    fn add(&mut self, exact: f32, got: f32) {
        let (exact, got) = (f64::from(exact), f64::from(got));
        let error = (got - exact).abs();
        self.n += 1;
        self.max = self.max.max(error);
        self.noise += error * error;
        self.signal += exact * exact;
    }

    pub(crate) fn report(&self) -> ErrorReport {
        ErrorReport {
            n: self.n,
            max: if self.noise.is_nan() {
                f64::NAN
            } else {
                self.max
            },
            mean_square: self.noise / self.n.max(1) as f64,
            signal_to_noise: 10.0 * (self.signal / self.noise).log10(),
        }
    }
    // ANCHOR_END: pairs

    /// Compares arrays of one shape.
    #[cfg(feature = "files")]
    pub(crate) fn add_all<S: Storage, D: Dimension, E: Dimension>(
        &mut self,
        exact: &ArrayRef<S, D>,
        got: &ArrayRef<f32, E>,
    ) {
        for (exact, got) in exact.iter().zip(got) {
            self.add(exact.to_f32(), *got);
        }
    }
}

/// Settings of [`histogram`]: equally wide bins between two ends.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistogramConfig {
    /// The lower end of the first bin.
    pub low: f64,
    /// The upper end of the last bin.
    pub high: f64,
    /// How many bins; 10 unless set.
    pub n_bins: usize,
}

impl HistogramConfig {
    /// Ten bins over a range.
    #[must_use]
    pub const fn new(range: RangeInclusive<f64>) -> Self {
        Self {
            low: *range.start(),
            high: *range.end(),
            n_bins: 10,
        }
    }

    /// Sets [`n_bins`](Self::n_bins).
    #[must_use]
    pub const fn with_bins(mut self, n_bins: usize) -> Self {
        self.n_bins = n_bins;
        self
    }
}

/// How many numbers are where.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// The lower end of the first bin.
    pub low: f64,
    /// The upper end of the last bin.
    pub high: f64,
    /// Numbers in each of the bins, which are equally wide; a number on an edge is in the upper one of two, `high` in the last.
    pub counts: Vec<u64>,
    /// Numbers below `low`.
    pub below: u64,
    /// Numbers above `high`.
    pub above: u64,
    /// Numbers that are NaN.
    pub n_nan: u64,
}

/// Counts numbers: those of [`by_block`] say how errors are spread over blocks.
///
/// # Errors
///
/// - [`QuantError::Bins`] if there is no bin.
/// - [`QuantError::Bounds`] if `low` and `high`, or their distance, are not finite, or `low` is not below `high`.
/// - [`QuantError::TooLarge`] if there is no memory.
///
/// # Precision
///
/// The bin of a number is that of `(x - low) / width` in `f64`: a number within rounding of an edge may be in either of two.
///
/// # Example
///
/// ```
/// use llm_quant::report::{self, HistogramConfig};
/// use ndarray::array;
///
/// let exact = array![1.0, 2.0, 3.0, 4.0];
/// let reports = report::by_block(&exact, &array![1.0, 2.0, 2.5, 4.0], 2)?;
/// let errors = reports.iter().map(|report| report.max);
/// let histogram = report::histogram(errors, &HistogramConfig::new(0.0..=1.0).with_bins(4))?;
/// assert_eq!(histogram.counts, [1, 0, 1, 0]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn histogram(
    numbers: impl IntoIterator<Item = f64>,
    config: &HistogramConfig,
) -> Result<Histogram, QuantError> {
    let HistogramConfig { low, high, n_bins } = *config;
    if n_bins == 0 {
        return Err(QuantError::Bins);
    }
    if !(low < high && (high - low).is_finite()) {
        return Err(QuantError::Bounds { low, high });
    }
    let width = (high - low) / n_bins as f64;
    let mut histogram = Histogram {
        low,
        high,
        counts: zeros(n_bins)?,
        below: 0,
        above: 0,
        n_nan: 0,
    };
    for x in numbers {
        if x.is_nan() {
            histogram.n_nan += 1;
        } else if x < low {
            histogram.below += 1;
        } else if x > high {
            histogram.above += 1;
        } else {
            let bin = (((x - low) / width) as usize).min(n_bins - 1);
            histogram.counts[bin] += 1;
        }
    }
    Ok(histogram)
}
