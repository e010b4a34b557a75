//! The loop that turns a model into text, for any model.

mod text;

use core::fmt::{Debug, Display};
use core::ops::ControlFlow;

use llm_numerics::Float;
use ndarray::Array1;

pub use text::generate_text;

use crate::{Candidates, Choose, Context, Draw, RowRandom, SamplingConfig, SamplingError, rows};

/// Settings of [`generate`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GenerateConfig<C = SamplingConfig> {
    /// How a token is chosen: a [`SamplingConfig`], a [`Chain`](crate::Chain), or what else implements [`Choose`].
    pub sampling: C,
    /// Tokens to make at most; 0 makes none.
    pub max_new_tokens: usize,
    /// Tokens that end the generation.
    #[doc(alias = "eos_token_id")]
    pub stop_ids: Vec<u32>,
    /// Key of the Philox generator.
    pub seed: u64,
    /// Stream of the Philox generator: one for each sequence, so that it does not matter
    /// which sequences run together.
    pub stream: u64,
}

impl<C> GenerateConfig<C> {
    /// No stop tokens, seed 0, stream 0.
    #[must_use]
    pub const fn new(sampling: C, max_new_tokens: usize) -> Self {
        Self {
            sampling,
            max_new_tokens,
            stop_ids: Vec::new(),
            seed: 0,
            stream: 0,
        }
    }

    /// Sets the [`stop_ids`](Self::stop_ids).
    #[must_use]
    pub fn with_stop_ids(mut self, stop_ids: Vec<u32>) -> Self {
        self.stop_ids = stop_ids;
        self
    }

    /// Sets the [`seed`](Self::seed).
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the [`stream`](Self::stream).
    #[must_use]
    pub const fn with_stream(mut self, stream: u64) -> Self {
        self.stream = stream;
        self
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// This stop token came; it is the last of the tokens.
    StopToken(u32),
    /// As many tokens were made as were allowed.
    MaxNewTokens,
    /// The callback said so.
    Callback,
    /// The stop string of this index came: see [`generate_text`].
    StopString(usize),
}

impl StopReason {
    /// OpenAI's `finish_reason`: `length` if tokens ran out, else `stop`.
    #[must_use]
    pub const fn finish_reason(self) -> &'static str {
        match self {
            Self::MaxNewTokens => "length",
            Self::StopToken(_) | Self::Callback | Self::StopString(_) => "stop",
        }
    }
}

/// The tokens that were made.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The new tokens, without the prompt; a stop token is the last.
    pub tokens: Vec<u32>,
    /// [`Draw::log_probability`] of each token.
    pub log_probabilities: Vec<f64>,
    /// Why there are no more.
    pub stop: StopReason,
}

/// What can go wrong in [`generate`]: the model, or the choice of a token.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError<E> {
    /// The caller's step returned an error.
    #[error("the model must give logits, got an error: {0}")]
    Model(E),
    /// No token could be chosen.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
}

/// Continues a prompt token by token.
///
/// ```text
/// x_0 = step(prompt),   t_i = choose(x_i; r_i),   x_(i+1) = step([t_i])
/// r_i = RowRandom::new(seed, stream, i)
/// ```
///
/// `step` is the model with its cache: it takes the tokens that it has not seen yet (first
/// the whole prompt, then one after the other) and returns the logits of the next one.
/// It is not called after the last token. `on_token` sees each token as it is made, a stop
/// token too, and may break the loop; if a stop token or the last allowed one came at the same time,
/// [`StopReason`] names the stop token first, then the callback.
///
/// # Shapes
///
/// - `prompt`: `[seq]`, at least one token
/// - `step` returns: `[vocab]`
///
/// # Errors
///
/// - [`GenerateError::Model`] with what `step` returned.
/// - [`GenerateError::Sampling`]: [`SamplingError::EmptyPrompt`], and those of
///   [`Choose::choose`].
///
/// # Example
///
/// ```
/// use core::convert::Infallible;
/// use core::ops::ControlFlow;
/// use llm_sampling::SamplingConfig;
/// use llm_sampling::generate::{GenerateConfig, StopReason, generate};
/// use ndarray::Array1;
///
/// // A model that counts: after n comes n + 1.
/// let step = |new_tokens: &[u32]| -> Result<Array1<f32>, Infallible> {
///     let next = new_tokens[new_tokens.len() - 1] + 1;
///     Ok(Array1::from_shape_fn(10, |i| if i as u32 == next { 1.0 } else { 0.0 }))
/// };
/// let config = GenerateConfig::new(SamplingConfig::greedy(), 100).with_stop_ids(vec![6]);
/// let mut streamed = Vec::new();
/// let generation = generate(&[1, 2], &config, step, |draw| {
///     streamed.push(draw.token);
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(generation.tokens, [3, 4, 5, 6]);
/// assert_eq!(generation.stop, StopReason::StopToken(6));
/// assert_eq!(streamed, generation.tokens);
/// # Ok::<(), llm_sampling::generate::GenerateError<Infallible>>(())
/// ```
pub fn generate<F: Float, E: Debug + Display, C: Choose<F>>(
    prompt: &[u32],
    config: &GenerateConfig<C>,
    mut step: impl FnMut(&[u32]) -> Result<Array1<F>, E>,
    mut on_token: impl FnMut(&Draw) -> ControlFlow<()>,
) -> Result<Generation, GenerateError<E>> {
    if prompt.is_empty() {
        return Err(SamplingError::EmptyPrompt.into());
    }
    let mut generation = Generation {
        tokens: Vec::new(),
        log_probabilities: Vec::new(),
        stop: StopReason::MaxNewTokens,
    };
    let (mut candidates, mut copy) = (Candidates::new(), Vec::new());
    for i in 0..config.max_new_tokens {
        let logits = match generation.tokens.last() {
            None => step(prompt),
            Some(last) => step(core::slice::from_ref(last)),
        }
        .map_err(GenerateError::Model)?;
        let random = RowRandom::new(config.seed, config.stream, i as u64);
        let context = Context::new(prompt, &generation.tokens).with_random(random);
        let draw = rows::as_slice(&logits, &mut copy, |row| {
            config.sampling.choose(row, &context, &mut candidates)
        })?;
        generation.tokens.push(draw.token);
        generation.log_probabilities.push(draw.log_probability);
        let flow = on_token(&draw);
        if config.stop_ids.contains(&draw.token) {
            generation.stop = StopReason::StopToken(draw.token);
            return Ok(generation);
        }
        if flow.is_break() {
            generation.stop = StopReason::Callback;
            return Ok(generation);
        }
    }
    Ok(generation)
}
