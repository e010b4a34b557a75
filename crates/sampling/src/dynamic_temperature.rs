//! Dynamic temperature: hotter where the model is unsure.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, temperature};

/// Divides logits by a temperature that grows with the entropy of the row.
///
/// ```text
/// p = softmax(x),  H = -sum p_i ln p_i,  n = tokens above -inf
/// T = low + (high - low) (H / ln n)^exponent,   low = max(0, temperature - range),  high = temperature + range
/// x_i <- x_i / T
/// ```
///
/// A range of 0 is a plain temperature. A single token is left as it is. Where `T` is 0, or so small that the largest logit would overflow, only the
/// likeliest token stays, the lowest id of equals, with its logit unchanged. llama.cpp counts in `n` all tokens that are still in its list;
/// its filters leave out what they drop, but top-nσ and a bias of `-inf` do not. Here masked tokens never count.
///
/// # Order
///
/// In the place of the temperature: last in llama.cpp's default chain, after all filters.
///
/// # Precision
///
/// The entropy is summed in `f64` from weights in `F`; for `f32` it is right to `1e-6`, relatively, also where it is small, as long as a second
/// token is within 87 of the likeliest (700 for `f64`): further down weights lose digits, and are 0 at last. The quotient is rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::dynamic_temperature::DynamicTemperature;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// // Two equals have all the entropy that two tokens can have: the upper end, 0.5 + 1.5.
/// let mut logits = array![[4.0_f32, 4.0]];
/// let temperature = DynamicTemperature::new(0.5, 1.5, 1.0)?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &temperature)?;
/// assert_eq!(logits, array![[2.0, 2.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `llama_sampler_temp_ext` of llama.cpp (llama-cpp-python 0.3.36).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicTemperature {
    temperature: f64,
    range: f64,
    exponent: f64,
}

impl DynamicTemperature {
    /// The processor; an exponent of 1 is usual.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::Temperature`] if the temperature is not finite and above 0, or 0 with a range above 0.
    /// - [`SamplingError::TemperatureRange`] if the range is not finite and at least 0, or its upper end is not finite.
    /// - [`SamplingError::TemperatureExponent`] if the exponent is not finite and at least 0.
    pub fn new(temperature: f64, range: f64, exponent: f64) -> Result<Self, SamplingError> {
        // With a range, 0 is its middle.
        if !(range > 0.0 && temperature == 0.0) {
            temperature::validate(temperature)?;
        }
        if !(range >= 0.0 && (temperature + range).is_finite()) {
            return Err(SamplingError::TemperatureRange { temperature, range });
        }
        if !(exponent >= 0.0 && exponent.is_finite()) {
            return Err(SamplingError::TemperatureExponent(exponent));
        }
        Ok(Self {
            temperature,
            range,
            exponent,
        })
    }

    /// The temperature for a share of the largest entropy.
    fn at(&self, share: f64) -> f64 {
        let low = (self.temperature - self.range).max(0.0);
        let high = self.temperature + self.range;
        low + (high - low) * share.clamp(0.0, 1.0).powf(self.exponent)
    }
}

impl<F: Float> Processor<F> for DynamicTemperature {
    /// # Errors
    ///
    /// - [`SamplingError::NanLogits`].
    /// - With a range above 0, [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`]; with a range of 0,
    ///   [`SamplingError::TemperatureOverflow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        if self.range == 0.0 {
            candidates.check()?;
            return candidates.divide(self.temperature);
        }
        let (max, _) = candidates.weigh()?;
        let (logits, scratch) = candidates.with_scratch();
        // Weights are at most 1, and 1 for the likeliest. Without one of these the sum keeps its digits where the model is sure.
        let (mut n, mut likeliest, mut rest, mut distances) = (0_usize, 0_usize, 0.0, 0.0);
        for (x, w) in logits.iter().zip(&scratch.values) {
            n += usize::from(*x > F::neg_infinity());
            if *x == max {
                likeliest += 1;
            } else if *w > F::zero() {
                rest += w.as_f64();
                distances += w.as_f64() * (max.as_f64() - x.as_f64());
            }
        }
        if n == 1 {
            return Ok(());
        }
        rest += (likeliest - 1) as f64;
        let entropy = rest.ln_1p() + distances / (1.0 + rest);
        let t = self.at(entropy / (n as f64).ln());
        if t > 0.0 && temperature::check_max(logits, max, t).is_ok() {
            temperature::divide(logits, t);
        } else {
            let likeliest = logits.iter().position(|x| *x == max).unwrap_or(0);
            candidates.keep_only(likeliest);
        }
        Ok(())
    }
}
