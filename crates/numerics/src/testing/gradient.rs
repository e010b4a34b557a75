//! An analytic gradient against central differences of the function.

use ndarray::{Array, ArrayRef, Dimension};

use super::Tolerance;
use super::tolerance::unravel;

/// Settings of a gradient check.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct GradientCheck {
    /// Step as a fraction of `max(1, |x|)`; must be finite and positive.
    pub step: f64,
    /// How far the analytic value may lie from the numeric one.
    pub tolerance: Tolerance,
    /// Check at most this many elements, spread evenly from the first to the last; `None` checks all.
    pub max_elements: Option<usize>,
    /// Combine steps `h` and `h / 2` so that the error of order `h²` cancels.
    pub richardson: bool,
}

impl GradientCheck {
    /// Every element, plain central differences, step 6e-6 (the cube root of the f64 epsilon), tolerance `1e-7 + 1e-6 |numeric|`.
    ///
    /// For a function near 1 with derivatives near 1 the numeric error is about 1e-10: truncation `h²/6`, rounding `1e-16/h`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            step: 6e-6,
            tolerance: Tolerance::new(1e-7, 1e-6),
            max_elements: None,
            richardson: false,
        }
    }

    /// Sets the [`step`](Self::step).
    #[must_use]
    pub const fn with_step(mut self, step: f64) -> Self {
        self.step = step;
        self
    }

    /// Sets the [`tolerance`](Self::tolerance).
    #[must_use]
    pub const fn with_tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets [`max_elements`](Self::max_elements).
    #[must_use]
    pub const fn with_max_elements(mut self, max_elements: usize) -> Self {
        self.max_elements = Some(max_elements);
        self
    }

    /// Turns on [Richardson extrapolation](Self::richardson) and sets the step to 1e-3, which suits its error of order `h⁴`.
    #[must_use]
    pub const fn with_richardson(mut self) -> Self {
        self.richardson = true;
        self.step = 1e-3;
        self
    }
}

impl Default for GradientCheck {
    fn default() -> Self {
        Self::new()
    }
}

/// What a passed gradient check saw.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct GradientReport {
    /// Number of checked elements.
    pub checked: usize,
    /// Largest `|analytic - numeric|`.
    pub worst_abs: f64,
    /// Largest error divided by the error that is allowed there.
    pub worst_ratio: f64,
}

/// Why a gradient check failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GradientError {
    /// The gradient does not have the shape of the input.
    #[error("gradient must have the shape of x {x:?}, got {analytic:?}")]
    Shape {
        /// Shape of the input.
        x: Vec<usize>,
        /// Shape of the analytic gradient.
        analytic: Vec<usize>,
    },
    /// The step is not finite and positive, or so small that `x + h` equals `x`.
    #[error("step must be finite, positive and large enough to change x, got {0}")]
    Step(f64),
    /// `max_elements` is zero, so that nothing would be checked.
    #[error("max_elements must be at least 1, got 0")]
    NoElements,
    /// The function, or the input, is not finite near an element.
    #[error("function must be finite around the element {index:?}, got {value}")]
    NotFinite {
        /// The element that was changed.
        index: Vec<usize>,
        /// What came instead of a finite number.
        value: f64,
    },
    /// Analytic and numeric derivative differ.
    #[error(
        "gradient must equal the central difference: {mismatches} of {checked} elements differ, \
         worst at {index:?}: analytic {analytic}, numeric {numeric}, allowed error {allowed:.3e}"
    )]
    Mismatch {
        /// The element with the largest error over allowed error.
        index: Vec<usize>,
        /// The central difference there.
        numeric: f64,
        /// The gradient under test there.
        analytic: f64,
        /// The largest error that is accepted there.
        allowed: f64,
        /// How many elements differ.
        mismatches: usize,
        /// How many elements were checked.
        checked: usize,
    },
}

/// Compares the gradient `analytic` of the scalar function `f` at `x` with central differences.
///
/// ```text
/// ∂f/∂xᵢ ≈ (f(x + h eᵢ) − f(x − h eᵢ)) / 2h,   h = step · max(1, |xᵢ|)
/// ```
///
/// For a function with many outputs, pass `f = Σ dout · y(x)` and the gradient for the upstream gradient `dout`. At a kink
/// (`max(x, 0)` at 0, equal values under a maximum) the two sides differ and the check fails: choose inputs away from it.
///
/// # Shapes
///
/// - `x`, `analytic`: any, the same
///
/// # Errors
///
/// - [`GradientError::Shape`] if the shapes differ.
/// - [`GradientError::Step`] if the step is not finite and positive, or vanishes beside an element.
/// - [`GradientError::NoElements`] if `max_elements` is zero.
/// - [`GradientError::NotFinite`] if `x` or a value of `f` is not finite.
/// - [`GradientError::Mismatch`] if the tolerance rejects an element, as it does each NaN.
///
/// # Example
///
/// ```
/// use llm_numerics::testing::gradient::{self, GradientCheck};
/// use ndarray::array;
///
/// let x = array![1.0, -2.0, 0.5];
/// let report = gradient::check(|x| x.mapv(|v| v * v).sum(), &x, &(&x * 2.0), &GradientCheck::new())?;
/// assert_eq!(report.checked, 3);
/// # Ok::<(), gradient::GradientError>(())
/// ```
pub fn check<D: Dimension>(
    mut f: impl FnMut(&Array<f64, D>) -> f64,
    x: &ArrayRef<f64, D>,
    analytic: &ArrayRef<f64, D>,
    config: &GradientCheck,
) -> Result<GradientReport, GradientError> {
    if x.shape() != analytic.shape() {
        return Err(GradientError::Shape {
            x: x.shape().to_vec(),
            analytic: analytic.shape().to_vec(),
        });
    }
    if !(config.step > 0.0 && config.step.is_finite()) {
        return Err(GradientError::Step(config.step));
    }
    if config.max_elements == Some(0) {
        return Err(GradientError::NoElements);
    }

    let analytic: Vec<f64> = analytic.iter().copied().collect();
    let base: Vec<f64> = x.iter().copied().collect();
    if let Some(flat) = base.iter().position(|value| !value.is_finite()) {
        return Err(GradientError::NotFinite {
            index: unravel(flat, x.shape()),
            value: base[flat],
        });
    }

    let mut probe = Probe {
        x: x.to_owned(),
        f: &mut f,
    };
    let mut report = GradientReport {
        checked: 0,
        worst_abs: 0.0,
        worst_ratio: 0.0,
    };
    let mut mismatches = 0;
    let mut worst = None;
    let mut worst_rank = -1.0;
    for flat in spread(base.len(), config.max_elements) {
        let h = config.step * base[flat].abs().max(1.0);
        let numeric = if config.richardson {
            (4.0 * probe.central(flat, h / 2.0)? - probe.central(flat, h)?) / 3.0
        } else {
            probe.central(flat, h)?
        };
        let accepted = config.tolerance.accepts(analytic[flat], numeric);
        let error = (analytic[flat] - numeric).abs();
        let allowed = config.tolerance.allowed(numeric);
        let ratio = if error == 0.0 { 0.0 } else { error / allowed };
        report.checked += 1;
        report.worst_abs = report.worst_abs.max(error);
        report.worst_ratio = report.worst_ratio.max(ratio);
        if !accepted {
            mismatches += 1;
            let rank = if ratio.is_nan() { f64::INFINITY } else { ratio };
            if rank > worst_rank {
                worst_rank = rank;
                worst = Some((flat, numeric, allowed));
            }
        }
    }
    match worst {
        None => Ok(report),
        Some((flat, numeric, allowed)) => Err(GradientError::Mismatch {
            index: unravel(flat, x.shape()),
            numeric,
            analytic: analytic[flat],
            allowed,
            mismatches,
            checked: report.checked,
        }),
    }
}

/// Panics if [`check`] refuses.
///
/// # Panics
///
/// With the text of the [`GradientError`].
///
/// # Example
///
/// ```
/// use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
/// use ndarray::array;
///
/// let x = array![[0.3, 0.7]];
/// assert_gradient(|x| x.mapv(f64::exp).sum(), &x, &x.mapv(f64::exp), &GradientCheck::new().with_richardson());
/// ```
#[track_caller]
pub fn assert_gradient<D: Dimension>(
    f: impl FnMut(&Array<f64, D>) -> f64,
    x: &ArrayRef<f64, D>,
    analytic: &ArrayRef<f64, D>,
    config: &GradientCheck,
) {
    if let Err(error) = check(f, x, analytic, config) {
        panic!("{error}");
    }
}

/// The function and a copy of its input in which one element at a time moves.
struct Probe<'a, D, F> {
    x: Array<f64, D>,
    f: &'a mut F,
}

impl<D: Dimension, F: FnMut(&Array<f64, D>) -> f64> Probe<'_, D, F> {
    /// The central difference over the step that floating point really takes.
    fn central(&mut self, flat: usize, h: f64) -> Result<f64, GradientError> {
        let Some(base) = self.x.iter().nth(flat).copied() else {
            return Ok(0.0); // `spread` stays inside
        };
        let (above, below) = (base + h, base - h);
        let distance = above - below;
        if !(distance > 0.0) {
            return Err(GradientError::Step(h));
        }
        let difference = self.at(flat, above, base)? - self.at(flat, below, base)?;
        let slope = difference / distance;
        if slope.is_finite() {
            Ok(slope)
        } else {
            Err(self.not_finite(flat, slope))
        }
    }

    fn at(&mut self, flat: usize, value: f64, base: f64) -> Result<f64, GradientError> {
        self.set(flat, value);
        let y = (self.f)(&self.x);
        self.set(flat, base);
        if y.is_finite() {
            Ok(y)
        } else {
            Err(self.not_finite(flat, y))
        }
    }

    fn set(&mut self, flat: usize, value: f64) {
        if let Some(place) = self.x.iter_mut().nth(flat) {
            *place = value;
        }
    }

    fn not_finite(&self, flat: usize, value: f64) -> GradientError {
        GradientError::NotFinite {
            index: unravel(flat, self.x.shape()),
            value,
        }
    }
}

/// At most `most` of `0..len`, evenly spread, both ends included.
fn spread(len: usize, most: Option<usize>) -> Vec<usize> {
    match most {
        Some(1) if len > 0 => vec![0],
        Some(n) if n < len => {
            // u128: the product of two lengths may not fit usize.
            (0..n)
                .map(|i| (i as u128 * (len as u128 - 1) / (n as u128 - 1)) as usize)
                .collect()
        }
        _ => (0..len).collect(),
    }
}
