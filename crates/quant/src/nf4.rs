//! The normal float with four bits: sixteen values that a normal variable meets about equally often.

use crate::QuantError;
use crate::normal;

/// Probability of the outermost quantile in that code: the mean of `1 - 1/(2 · 15)` and `1 - 1/(2 · 16)`, cut to
/// seven digits as in bitsandbytes.
pub const OFFSET: f64 = 0.967_708_3;

/// The sixteen values of NF4, ascending.
///
/// [`code_from_offset`] with [`OFFSET`].
///
/// # Precision
///
/// The bits of the `f32` constants of bitsandbytes.
///
/// # Example
///
/// ```
/// let code = llm_quant::nf4::code();
/// assert_eq!((code[0], code[7], code[15]), (-1.0, 0.0, 1.0));
/// assert_eq!(code[8], 0.079_580_3);
/// ```
#[must_use]
pub fn code() -> [f32; 16] {
    from_offset(OFFSET)
}

/// The sixteen values for another probability of the outermost quantile, ascending.
///
/// ```text
/// positive: Q(p)   for the first 8 of 9 equal steps from `offset` down to 1/2
/// negative: -Q(p)  for the first 7 of 8 equal steps from `offset` down to 1/2
/// and 0; all divided by Q(offset)
/// ```
///
/// with `Q` = [`normal::quantile`]. The two halves have different steps, because 0 must be a value and the number of values is
/// even.
///
/// # Errors
///
/// [`QuantError::Probability`] unless `0.5 < offset < 1`, also once it is rounded to `f32`.
///
/// # Precision
///
/// Steps, quantiles and quotients are rounded to `f32`, as bitsandbytes does.
///
/// # Example
///
/// ```
/// let narrow = llm_quant::nf4::code_from_offset(0.9)?;
/// assert!(narrow[8] > llm_quant::nf4::code()[8]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2023, arXiv:2305.14314v1 §3 and appendix E; bitsandbytes 0.50.2, `create_normal_map`.
pub fn code_from_offset(offset: f64) -> Result<[f32; 16], QuantError> {
    // Near 1/2 all steps would be the same number.
    let rounded = f64::from(offset as f32);
    if !(rounded > 0.5 + 1e-5 && rounded < 1.0) {
        return Err(QuantError::Probability {
            low: 0.500_01,
            got: offset,
        });
    }
    Ok(from_offset(offset))
}

// ANCHOR: from_offset
/// The offset must lie strictly between 1/2 and 1.
fn from_offset(offset: f64) -> [f32; 16] {
    let quantile = |i: usize, n_steps: usize| {
        let p = f64::from(step(offset as f32, i, n_steps));
        normal::quantile(p).unwrap_or(0.0) as f32 // never an error: from 1/2 to below 1
    };
    let max = quantile(0, 8);
    core::array::from_fn(|index| match index {
        0..7 => -quantile(index, 7) / max,
        7 => 0.0,
        _ => quantile(15 - index, 8) / max,
    })
}
// ANCHOR_END: from_offset

/// Step `i` of `n_steps` from `start` to 1/2, each half counted from its own end; one rounding.
fn step(start: f32, i: usize, n_steps: usize) -> f32 {
    let width = f64::from((0.5 - start) / n_steps as f32);
    if i < n_steps.div_ceil(2) {
        (f64::from(start) + width * i as f64) as f32
    } else {
        (0.5 - width * (n_steps - i) as f64) as f32
    }
}
