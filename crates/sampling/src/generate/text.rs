//! The loop as text, up to a stop string.

use core::fmt::{Debug, Display};
use core::ops::ControlFlow;

use llm_numerics::Float;
use ndarray::Array1;

use super::{GenerateConfig, GenerateError, Generation, StopReason, generate};
use crate::Choose;
use crate::stream::StopStreamer;

/// [`generate`], whose tokens become text that ends at a stop string.
///
/// `bytes_of` is the tokenizer: the bytes of a token, none for one that is no text, as an end token. `on_text` sees each piece of text as soon
/// as no stop string can begin in it, and may break the loop. The tokens of the result include those of the stop string, and end with the one
/// that completed it. If a stop token came at the same time, [`Generation::stop`] names that one; after it, the stop string; then the callback.
///
/// # Shapes
///
/// Those of [`generate`].
///
/// # Errors
///
/// Those of [`generate`].
///
/// # Precision
///
/// That of [`generate`].
///
/// # Example
///
/// ```
/// use core::convert::Infallible;
/// use core::ops::ControlFlow;
/// use llm_sampling::SamplingConfig;
/// use llm_sampling::generate::{GenerateConfig, StopReason, generate_text};
/// use llm_sampling::stream::{StopStreamer, StopStrings, StopText};
/// use ndarray::Array1;
///
/// // A model that counts: after n comes n + 1. Its tokens are digits.
/// let step = |new_tokens: &[u32]| -> Result<Array1<f32>, Infallible> {
///     let next = new_tokens[new_tokens.len() - 1] + 1;
///     Ok(Array1::from_shape_fn(10, |i| if i as u32 == next { 1.0 } else { 0.0 }))
/// };
/// let config = GenerateConfig::new(SamplingConfig::greedy(), 100);
/// let mut streamer = StopStreamer::new(StopStrings::new(&["78"])?, StopText::Drop);
/// let mut text = String::new();
/// let generation = generate_text(&[2], &config, &mut streamer, |token| token.to_string(), step, |piece| {
///     text.push_str(piece);
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(text, "3456");
/// assert_eq!(generation.stop, StopReason::StopString(0));
/// assert_eq!(generation.tokens, [3, 4, 5, 6, 7, 8]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn generate_text<F: Float, E: Debug + Display, B: AsRef<[u8]>, C: Choose<F>>(
    prompt: &[u32],
    config: &GenerateConfig<C>,
    streamer: &mut StopStreamer,
    mut bytes_of: impl FnMut(u32) -> B,
    step: impl FnMut(&[u32]) -> Result<Array1<F>, E>,
    mut on_text: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation, GenerateError<E>> {
    let mut broken = false;
    let mut show = |text: &str| {
        // After a break there is no more to see.
        if !broken && !text.is_empty() {
            broken = on_text(text).is_break();
        }
        broken
    };
    let mut generation = generate(prompt, config, step, |draw| {
        let text = streamer.push(bytes_of(draw.token).as_ref());
        if show(&text) || streamer.stopped().is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    show(&streamer.finish());
    // The end of the text may complete one too. A stop token keeps its name.
    let by_token = matches!(generation.stop, StopReason::StopToken(_));
    if let Some(index) = streamer.stopped().filter(|_| !by_token) {
        generation.stop = StopReason::StopString(index);
    }
    Ok(generation)
}
