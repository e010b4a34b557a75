//! Temperature: flatter or steeper distributions.

use llm_numerics::{Float, simd};
use ndarray::ArrayRef2;

use crate::processor::Shortcut;
use crate::{Candidates, Context, Processor, SamplingError, rows};

/// Divides logits by the temperature.
///
/// ```text
/// x_i <- x_i / T
/// ```
///
/// Below 1 the likely tokens gain, above 1 the unlikely ones; 1 changes nothing. `-inf`
/// (masked out) stays `-inf`. A temperature of zero is an error here, as in Hugging Face;
/// llama.cpp takes it for greedy decoding, which here has a name:
/// [`SamplingConfig::greedy`](crate::SamplingConfig::greedy).
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, any strides
///
/// # Errors
///
/// - [`SamplingError::Temperature`] if the temperature is not finite and above zero.
/// - [`SamplingError::NanLogits`], [`SamplingError::Vocab`].
/// - [`SamplingError::TemperatureOverflow`] if a finite logit would become infinite.
///
/// On an error, the logits are unchanged.
///
/// # Precision
///
/// The quotient is computed in `f64` and rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::temperature;
/// use ndarray::array;
///
/// let mut logits = array![[3.0_f32, 2.0, f32::NEG_INFINITY]];
/// temperature::apply_inplace(&mut logits, 0.5)?;
/// assert_eq!(logits, array![[6.0, 4.0, f32::NEG_INFINITY]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `TemperatureLogitsWarper` of transformers 5.23.
pub fn apply_inplace<F: Float>(
    logits: &mut ArrayRef2<F>,
    temperature: f64,
) -> Result<(), SamplingError> {
    validate(temperature)?;
    let check = |row: &[F]| {
        rows::check(row)?;
        check_overflow(row, temperature)
    };
    rows::try_for_each_mut(logits, check, |row| divide(row, temperature))
}

/// [`apply_inplace`] as a processor, but for logits that overflow.
///
/// Where the largest logit stays finite, one that falls below all finite numbers is masked: its probability is 0. So a temperature may
/// follow [`RemoveInvalid`](crate::remove_invalid::RemoveInvalid), which puts the lowest finite number in the place of `-inf`.
///
/// # Example
///
/// ```
/// use llm_sampling::temperature::Temperature;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[3.0_f32, 2.0, f32::MIN]];
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &Temperature::new(0.5)?)?;
/// assert_eq!(logits, array![[6.0, 4.0, f32::NEG_INFINITY]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: as for [`apply_inplace`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature(f64);

impl Temperature {
    /// The processor; 1 changes nothing.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Temperature`] if the temperature is not finite and above zero.
    pub fn new(temperature: f64) -> Result<Self, SamplingError> {
        validate(temperature)?;
        Ok(Self(temperature))
    }
}

impl<F: Float> Processor<F> for Temperature {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], and [`SamplingError::TemperatureOverflow`] if the largest logit is finite and would become infinite.
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        candidates.check()?;
        candidates.divide(self.0)
    }

    fn shortcut(&self) -> Shortcut {
        Shortcut::Divide(self.0)
    }
}

pub(crate) fn validate(temperature: f64) -> Result<(), SamplingError> {
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(SamplingError::Temperature(temperature));
    }
    Ok(())
}

/// Refuses finite logits that the division would make infinite.
pub(crate) fn check_overflow<F: Float>(row: &[F], temperature: f64) -> Result<(), SamplingError> {
    if temperature >= 1.0 {
        return Ok(());
    }
    let overflows = |x: F| {
        let y = F::from_f64(x.as_f64() / temperature);
        x.abs() < F::infinity() && y.abs() == F::infinity()
    };
    let any = simd::vectorize(
        #[inline(always)]
        || {
            row.iter()
                .fold(0_u32, |any, &x| any | u32::from(overflows(x)))
        },
    );
    if any == 0 {
        return Ok(());
    }
    let token = row.iter().position(|&x| overflows(x)).unwrap_or(0);
    Err(SamplingError::TemperatureOverflow {
        row: 0,
        token,
        logit: row[token].as_f64(),
        temperature,
    })
}

/// Refuses a largest logit that is finite and would become infinite. Smaller ones may: their probability is 0.
pub(crate) fn check_max<F: Float>(
    row: &[F],
    max: F,
    temperature: f64,
) -> Result<(), SamplingError> {
    let divided = F::from_f64(max.as_f64() / temperature);
    if divided.is_finite() || !max.is_finite() {
        return Ok(());
    }
    Err(SamplingError::TemperatureOverflow {
        row: 0,
        token: row.iter().position(|x| *x == max).unwrap_or(0),
        logit: max.as_f64(),
        temperature,
    })
}

pub(crate) fn divide<F: Float>(row: &mut [F], temperature: f64) {
    if temperature == 1.0 {
        return;
    }
    simd::vectorize(
        #[inline(always)]
        || {
            for x in row.iter_mut() {
                *x = F::from_f64(x.as_f64() / temperature);
            }
        },
    );
}
