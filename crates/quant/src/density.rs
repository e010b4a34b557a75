//! A code beside the normal density: what a picture of it shows.

use crate::{QuantError, normal};

/// One value of a code, with the numbers that it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cell {
    /// The value.
    pub value: f64,
    /// Where its numbers begin: the middle to the value below, or minus infinity.
    pub low: f64,
    /// Where they end: the middle to the value above, or infinity.
    pub high: f64,
    /// The normal density at the value.
    pub density: f64,
    /// The probability that a number falls to it.
    pub share: f64,
}

/// The density of numbers with standard deviation `1 / scale`: `scale · φ(scale · x)`.
///
/// A block of weights that are normal and have the largest magnitude `scale` (in standard deviations) looks so after it was divided by it.
///
/// # Errors
///
/// [`QuantError::DensityScale`] if `scale` is not finite and above 0.
///
/// # Precision
///
/// A few roundings of `f64`; 0 far away.
///
/// # Example
///
/// ```
/// let top = llm_quant::density::at(0.0, 2.0)?;
/// assert!((top - 0.797_884_560_8).abs() < 1e-9); // 2 / sqrt(2π)
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn at(x: f64, scale: f64) -> Result<f64, QuantError> {
    check(scale)?;
    Ok(scale * (-0.5 * (x * scale).powi(2)).exp() / (2.0 * core::f64::consts::PI).sqrt())
}

/// The cells of a code, ascending: values, their ends, the density and the share of numbers that fall to each.
///
/// # Errors
///
/// - [`QuantError::DensityScale`] if `scale` is not finite and above 0.
/// - [`QuantError::NonFinite`] if a value is NaN or infinite.
///
/// # Precision
///
/// Shares to about 1e-15, absolute. Of equal values, as the two zeros of FP4, the first one gets no number.
///
/// # Example
///
/// NF4 takes its values at equal steps of probability, so that codes are used about equally often, but for the ends.
///
/// ```
/// use llm_quant::{density, nf4, normal};
///
/// let scale = normal::quantile(nf4::OFFSET)?; // what NF4 was divided by
/// let cells = density::cells(&nf4::code(), scale)?;
/// assert!((cells.iter().map(|cell| cell.share).sum::<f64>() - 1.0).abs() < 1e-12);
/// assert!(cells[1..15].iter().all(|cell| (cell.share * 16.0 - 1.0).abs() < 0.2));
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn cells(values: &[f32], scale: f64) -> Result<Vec<Cell>, QuantError> {
    check(scale)?;
    if let Some(index) = values.iter().position(|x| !x.is_finite()) {
        let value = values[index];
        return Err(QuantError::NonFinite { index, value });
    }
    let mut sorted: Vec<f64> = values.iter().map(|&x| x.into()).collect();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let middle = |i: usize| match i {
        0 => f64::NEG_INFINITY,
        i if i == n => f64::INFINITY,
        i => (sorted[i - 1] + sorted[i]) / 2.0,
    };
    (0..n)
        .map(|i| {
            let (value, low, high) = (sorted[i], middle(i), middle(i + 1));
            Ok(Cell {
                value,
                low,
                high,
                density: at(value, scale)?,
                share: below(high * scale) - below(low * scale),
            })
        })
        .collect()
}

fn check(scale: f64) -> Result<(), QuantError> {
    match scale > 0.0 && scale.is_finite() {
        true => Ok(()),
        false => Err(QuantError::DensityScale { got: scale }),
    }
}

/// The probability of a number below `x`: the inverse of [`normal::quantile`], by halving.
fn below(x: f64) -> f64 {
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal::quantile(middle).is_ok_and(|quantile| quantile < -x.abs()) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let tail = (low + high) / 2.0;
    if x > 0.0 { 1.0 - tail } else { tail }
}
