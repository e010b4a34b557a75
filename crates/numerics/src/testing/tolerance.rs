//! One comparison for all crates: absolute plus relative tolerance, NaN close to nothing.

use std::fmt;

use ndarray::{ArrayRef, Dimension};
use num_traits::ToPrimitive;

/// How far a value may lie from the expected one.
///
/// ```text
/// |got − want| ≤ abs + rel · |want|
/// ```
///
/// # Example
///
/// ```
/// use llm_numerics::testing::Tolerance;
///
/// let tolerance = Tolerance::new(1e-6, 1e-5);
/// assert!(tolerance.accepts(100.0005, 100.0));
/// assert!(!tolerance.accepts(100.01, 100.0));
/// assert!(!tolerance.accepts(f64::NAN, f64::NAN));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Allowed absolute error, in the unit of the values.
    pub abs: f64,
    /// Allowed error as a fraction of the expected value.
    pub rel: f64,
}

impl Tolerance {
    /// Allows `abs + rel * |want|`. A negative or NaN part makes everything but equal values fail.
    #[must_use]
    pub const fn new(abs: f64, rel: f64) -> Self {
        Self { abs, rel }
    }

    /// Allows equal values only (`0.0` equals `-0.0`).
    #[must_use]
    pub const fn exact() -> Self {
        Self::new(0.0, 0.0)
    }

    /// True if `got` equals `want`, or both are finite and no further apart than [`allowed`](Self::allowed).
    ///
    /// Infinities are close only to themselves, NaN to nothing.
    #[must_use]
    pub fn accepts(&self, got: f64, want: f64) -> bool {
        got == want
            || (got.is_finite() && want.is_finite() && (got - want).abs() <= self.allowed(want))
    }

    /// The largest error that is accepted at the expected value `want`: `abs + rel * |want|`.
    #[must_use]
    pub fn allowed(&self, want: f64) -> f64 {
        self.abs + self.rel * want.abs()
    }
}

/// One compared pair of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where in the array.
    pub index: Vec<usize>,
    /// The value under test.
    pub got: f64,
    /// The expected value.
    pub want: f64,
    /// The largest error that the tolerance accepts here.
    pub allowed: f64,
}

/// What a comparison of two arrays of the same shape found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// Number of compared values.
    pub count: usize,
    /// Largest `|got - want|`; infinite where one side is NaN or a wrong infinity.
    pub worst_abs: f64,
    /// Largest error divided by the error that is allowed at that place; infinite where nothing was allowed.
    pub worst_ratio: f64,
    /// The pair with the largest ratio, the first of them; `None` if there was nothing to compare.
    pub worst: Option<Difference>,
}

/// Why two arrays are not close.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The shapes differ.
    Shape {
        /// Shape of the array under test.
        got: Vec<usize>,
        /// Shape of the expected array.
        want: Vec<usize>,
    },
    /// Values lie further apart than the tolerance.
    Values {
        /// How many values were not accepted.
        mismatches: usize,
        /// Shape of both arrays.
        shape: Vec<usize>,
        /// The tolerance in use.
        tolerance: Tolerance,
        /// Everything else, the worst place included.
        comparison: Comparison,
    },
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { got, want } => write!(f, "shape must be {want:?}, got {got:?}"),
            Self::Values {
                mismatches,
                shape,
                tolerance,
                comparison,
            } => {
                let Tolerance { abs, rel } = tolerance;
                write!(f, "values must be within {abs:e} + {rel:e} * |want|, ")?;
                write!(
                    f,
                    "got {mismatches} of {} outside (shape {shape:?})",
                    comparison.count
                )?;
                if let Some(Difference {
                    index,
                    got,
                    want,
                    allowed,
                }) = &comparison.worst
                {
                    let error = (got - want).abs();
                    write!(
                        f,
                        "; worst at {index:?}: got {got:?}, want {want:?}, error {error:.3e}, allowed {allowed:.3e}"
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// Compares `got` with `want` element by element.
///
/// Works for arrays, views and slices of any dimension and strides, and for every element type that is a number
/// (`f16` … `f64`, integers; an integer above 2⁵³ is rounded).
///
/// # Shapes
///
/// - `got`, `want`: any, the same
///
/// # Errors
///
/// - [`Mismatch::Shape`] if the shapes differ: nothing is broadcast.
/// - [`Mismatch::Values`] if `tolerance` rejects a pair.
///
/// # Example
///
/// ```
/// use llm_numerics::testing::{Tolerance, compare};
/// use ndarray::array;
///
/// let found = compare(&array![1.0_f32, 2.5], &array![1.0_f64, 2.0], Tolerance::new(1.0, 0.0))?;
/// assert_eq!(found.worst_abs, 0.5);
/// assert_eq!(found.worst_ratio, 0.5);
/// # Ok::<(), llm_numerics::testing::Mismatch>(())
/// ```
pub fn compare<A, B, D, E>(
    got: &ArrayRef<A, D>,
    want: &ArrayRef<B, E>,
    tolerance: Tolerance,
) -> Result<Comparison, Mismatch>
where
    A: ToPrimitive,
    B: ToPrimitive,
    D: Dimension,
    E: Dimension,
{
    if got.shape() != want.shape() {
        return Err(Mismatch::Shape {
            got: got.shape().to_vec(),
            want: want.shape().to_vec(),
        });
    }
    compare_pairs(
        got.iter().map(to_f64).zip(want.iter().map(to_f64)),
        got.shape(),
        tolerance,
    )
}

/// Panics with the worst place if [`compare`] refuses.
///
/// # Shapes
///
/// - `got`, `want`: any, the same
///
/// # Panics
///
/// If the shapes differ or `tolerance` rejects a pair: the message has the number of mismatches, the shape, and index,
/// values and allowed error of the worst.
///
/// # Example
///
/// ```
/// use llm_numerics::testing::{Tolerance, assert_close};
/// use ndarray::array;
///
/// assert_close(&array![[0.1_f32 + 0.2_f32]], &array![[0.3_f64]], Tolerance::new(0.0, 1e-6));
/// ```
#[track_caller]
pub fn assert_close<A, B, D, E>(got: &ArrayRef<A, D>, want: &ArrayRef<B, E>, tolerance: Tolerance)
where
    A: ToPrimitive,
    B: ToPrimitive,
    D: Dimension,
    E: Dimension,
{
    if let Err(mismatch) = compare(got, want, tolerance) {
        panic!("{mismatch}");
    }
}

/// The value as f64, NaN (close to nothing) where the type cannot say.
pub(super) fn to_f64<T: ToPrimitive>(value: &T) -> f64 {
    value.to_f64().unwrap_or(f64::NAN)
}

/// Compares pairs `(got, want)` in the logical order of an array of this shape.
pub(super) fn compare_pairs(
    pairs: impl Iterator<Item = (f64, f64)>,
    shape: &[usize],
    tolerance: Tolerance,
) -> Result<Comparison, Mismatch> {
    let mut found = Comparison {
        count: 0,
        worst_abs: 0.0,
        worst_ratio: 0.0,
        worst: None,
    };
    let mut mismatches = 0;
    let mut worst = None;
    for (flat, (got, want)) in pairs.enumerate() {
        found.count += 1;
        let accepted = tolerance.accepts(got, want);
        mismatches += usize::from(!accepted);
        let error = error(got, want);
        let ratio = ratio(error, tolerance.allowed(want), accepted);
        found.worst_abs = found.worst_abs.max(error);
        if worst.is_none() || ratio > found.worst_ratio {
            found.worst_ratio = ratio;
            worst = Some((flat, got, want));
        }
    }
    found.worst = worst.map(|(flat, got, want)| Difference {
        index: unravel(flat, shape),
        got,
        want,
        allowed: tolerance.allowed(want),
    });
    if mismatches == 0 {
        Ok(found)
    } else {
        Err(Mismatch::Values {
            mismatches,
            shape: shape.to_vec(),
            tolerance,
            comparison: found,
        })
    }
}

/// Absolute error: 0 for equal values (also infinities), infinite where it cannot be told.
fn error(got: f64, want: f64) -> f64 {
    if got == want {
        return 0.0;
    }
    let error = (got - want).abs();
    if error.is_nan() { f64::INFINITY } else { error }
}

/// Error over allowed error, such that a rejected pair never has less than an accepted one.
fn ratio(error: f64, allowed: f64, accepted: bool) -> f64 {
    if error == 0.0 {
        return 0.0;
    }
    let ratio = error / allowed;
    match accepted {
        true if ratio.is_nan() => 1.0, // both overflowed
        true => ratio.min(1.0),
        false if ratio > 1.0 => ratio,
        false => f64::INFINITY, // a tolerance that is NaN or negative
    }
}

/// The index of the `flat`-th element in row-major order.
pub(super) fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &length) in index.iter_mut().zip(shape).rev() {
        *place = flat % length.max(1);
        flat /= length.max(1);
    }
    index
}
