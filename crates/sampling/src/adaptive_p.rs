//! Adaptive-p: tokens near a probability are preferred, and the mean of what was chosen is led towards it.

use llm_numerics::Float;
use ndarray::ArrayRef1;

use crate::{Candidates, Draw, SamplingError, categorical, rows};

/// Settings of adaptive-p; the state comes in and goes out.
///
/// ```text
/// p = softmax(x),   a = clamp(2 target - weighted_sum / total_weight, 0, 1)
/// d_i = |p_i - a| / 0.3,   y_i = 5 - 10 d_i^2 / (1 + d_i)
/// draw i from softmax(y);   weighted_sum <- p_i + decay weighted_sum,   total_weight <- 1 + decay total_weight
/// ```
///
/// If the tokens so far were likelier than the target on average, less likely ones are preferred now, and the other way round. Near `a` the
/// penalty is quadratic, far from it linear. The state begins as if the target had been met for ever.
///
/// # Order
///
/// Last, as it chooses the token: in llama.cpp it replaces the draw at the end of the chain, after the temperature. It is off unless named;
/// then the target is -1 (a plain draw, which here is [`categorical::draw`]) and the decay 0.9 by default. Min-p before it is recommended there.
///
/// # Precision
///
/// Probabilities and the new logits are in `f64`, from weights in `F`; logits are rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::adaptive_p::{self, AdaptiveP};
/// use ndarray::array;
///
/// let logits = array![0.7_f64.ln(), 0.2_f64.ln(), 0.1_f64.ln()];
/// let config = AdaptiveP::new(0.2, 0.5)?;
/// let state = config.initial_state();
/// // Distances 5/3, 0, 1/3 give the logits -5.42, 5, 4.17.
/// let (draw, state) = adaptive_p::draw(&logits, &config, &state, 0.5)?;
/// assert_eq!(draw.token, 1);
/// assert!((state.mean() - 0.2).abs() < 1e-12); // that token had the probability of the target
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `llama_sampler_adaptive_p` of llama.cpp (llama-cpp-python 0.3.36), pull request 17927.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveP {
    target: f64,
    decay: f64,
}

/// What adaptive-p knows of the tokens so far: a mean of their probabilities, in which older ones count less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveState {
    /// Sum of the probabilities, older ones times powers of the decay.
    pub weighted_sum: f64,
    /// Sum of these powers.
    pub total_weight: f64,
}

impl AdaptiveState {
    /// The mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.weighted_sum / self.total_weight
    }

    fn check(&self) -> Result<(), SamplingError> {
        if self.total_weight > 0.0 && self.mean().is_finite() {
            return Ok(());
        }
        Err(SamplingError::AdaptiveState {
            weighted_sum: self.weighted_sum,
            total_weight: self.total_weight,
        })
    }
}

/// Distance from the target that counts as one.
const WIDTH: f64 = 0.3;
/// The logit of a token right on the target.
const PEAK: f64 = 5.0;
/// How steeply logits fall from it.
const SHARPNESS: f64 = 10.0;

impl AdaptiveP {
    /// The settings. llama.cpp takes a decay above 0.99 for 0.99.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::AdaptiveTarget`] if the target is not in `[0, 1]`.
    /// - [`SamplingError::AdaptiveDecay`] if the decay is not in `[0, 1)`.
    pub fn new(target: f64, decay: f64) -> Result<Self, SamplingError> {
        if !(0.0..=1.0).contains(&target) {
            return Err(SamplingError::AdaptiveTarget(target));
        }
        if !(0.0..1.0).contains(&decay) {
            return Err(SamplingError::AdaptiveDecay(decay));
        }
        Ok(Self { target, decay })
    }

    /// The state of a sequence without tokens.
    #[must_use]
    pub fn initial_state(&self) -> AdaptiveState {
        let total_weight = 1.0 / (1.0 - self.decay);
        AdaptiveState {
            weighted_sum: self.target * total_weight,
            total_weight,
        }
    }

    /// The state after a token that had this probability before the logits were changed.
    #[must_use]
    pub fn next_state(&self, state: &AdaptiveState, probability: f64) -> AdaptiveState {
        AdaptiveState {
            weighted_sum: probability + self.decay * state.weighted_sum,
            total_weight: 1.0 + self.decay * state.total_weight,
        }
    }

    /// Puts the new logits in place of the old ones; `-inf` stays. The old probabilities are in [`Scratch::sums`](crate::Scratch::sums) then.
    ///
    /// # Errors
    ///
    /// [`SamplingError::AdaptiveState`], [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    pub fn transform<F: Float>(
        &self,
        candidates: &mut Candidates<F>,
        state: &AdaptiveState,
    ) -> Result<(), SamplingError> {
        state.check()?;
        let (_, total) = candidates.weigh()?;
        let preferred = (2.0 * self.target - state.mean()).clamp(0.0, 1.0);
        let (logits, scratch) = candidates.with_scratch();
        scratch.sums.clear();
        for (x, w) in logits.iter_mut().zip(&scratch.values) {
            let p = w.as_f64() / total;
            scratch.sums.push(p);
            if *x > F::neg_infinity() {
                let d = (p - preferred).abs() / WIDTH;
                *x = F::from_f64(PEAK - SHARPNESS * d * d / (1.0 + d));
            }
        }
        Ok(())
    }

    /// [`draw`] from the candidates that processors have left.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Uniform`], and those of [`transform`](Self::transform).
    pub fn choose<F: Float>(
        &self,
        candidates: &mut Candidates<F>,
        state: &AdaptiveState,
        u: f64,
    ) -> Result<(Draw, AdaptiveState), SamplingError> {
        categorical::check_uniform(u)?;
        self.transform(candidates, state)?;
        let draw = categorical::choose(candidates, u)?;
        let index = candidates.index(draw.token).unwrap_or(0); // it was just drawn
        let probability = candidates.with_scratch().1.sums[index];
        Ok((draw, self.next_state(state, probability)))
    }
}

/// Draws a token, and returns it with the state for the next one. The rule is at [`AdaptiveP`].
///
/// The [`log_probability`](Draw::log_probability) is that under the new logits.
///
/// # Shapes
///
/// - `logits`: `[vocab]`, any stride
///
/// # Errors
///
/// [`SamplingError::AdaptiveState`], [`SamplingError::Uniform`], [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`],
/// [`SamplingError::MaskedRow`], [`SamplingError::Vocab`]; they name row 0.
///
/// # Example
///
/// See [`AdaptiveP`].
pub fn draw<F: Float>(
    logits: &ArrayRef1<F>,
    config: &AdaptiveP,
    state: &AdaptiveState,
    u: f64,
) -> Result<(Draw, AdaptiveState), SamplingError> {
    let mut candidates = Candidates::new();
    rows::as_slice(logits, &mut Vec::new(), |row| candidates.fill(row))?;
    config.choose(&mut candidates, state, u)
}
