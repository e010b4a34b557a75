//! The trained model: embedded weights, conversation, streamed text.

use core::fmt;
use core::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use llm_chat_format::{Ending, LossMask, Message, chatglm3};
use llm_decoder::{Decoder, Session, checkpoint};
use llm_sampling::generate::{GenerateConfig, GenerateError, StopReason, generate};
use llm_sampling::{Choose, SamplingConfig};

use crate::recipe::Recipe;
use crate::tokenizer::ControlTokens;
use crate::train::control_ids;
use crate::{TinyModelError, Tokenizer};

/// After the second stage: it converses.
static CHAT: &[u8] = include_bytes!("../data/chat.safetensors");
/// After the first stage: it continues text.
static BASE: &[u8] = include_bytes!("../data/base.safetensors");

/// The most tokens that are made if nobody says how many: the embedded models' context.
pub const DEFAULT_NEW_TOKENS: usize = 512;

/// How to continue a prompt.
#[derive(Clone)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// How a token is chosen.
    pub sampling: Arc<dyn Choose<f32> + Send + Sync>,
    /// Tokens to make at most; if `None`, what fits the context, up to [`DEFAULT_NEW_TOKENS`].
    pub max_new_tokens: Option<usize>,
    /// Key of the random numbers.
    pub seed: u64,
}

impl fmt::Debug for GenerateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerateOptions")
            .field("max_new_tokens", &self.max_new_tokens)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl GenerateOptions {
    /// The likeliest token each time, seed 0.
    #[must_use]
    pub fn greedy() -> Self {
        Self::new(SamplingConfig::greedy())
    }

    /// No limit of its own, seed 0. Takes a [`SamplingConfig`], a [`Chain`](llm_sampling::Chain) or a closure.
    #[must_use]
    pub fn new(sampling: impl Choose<f32> + Send + Sync + 'static) -> Self {
        Self {
            sampling: Arc::new(sampling),
            max_new_tokens: None,
            seed: 0,
        }
    }

    /// Sets [`max_new_tokens`](Self::max_new_tokens).
    #[must_use]
    pub const fn with_max_new_tokens(mut self, n: usize) -> Self {
        self.max_new_tokens = Some(n);
        self
    }

    /// Sets the [`seed`](Self::seed).
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reply {
    /// The text, without control tokens; of a chat reply the content alone.
    pub text: String,
    /// The tokens that were made, control tokens too.
    pub tokens: Vec<u32>,
    /// Natural logarithm of the probability of each token.
    pub log_probabilities: Vec<f64>,
    /// Tokens of the prompt.
    pub n_prompt_tokens: usize,
    /// Why there are no more tokens.
    pub stop: StopReason,
}

/// A model with the character tokenizer and the ChatGLM3 format.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyModel {
    decoder: Decoder<f32>,
}

impl TinyModel {
    /// The embedded chat model: pre-trained, then fine-tuned on dialogues.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::Decoder`] if the embedded weights are damaged.
    ///
    /// # Example
    ///
    /// ```
    /// use core::ops::ControlFlow;
    /// use llm_chat_format::Message;
    /// use llm_tiny_model::{GenerateOptions, TinyModel};
    ///
    /// let model = TinyModel::chat_model()?;
    /// let question = "现有鸡兔22只,共有48只脚,请问鸡比兔多了几只?";
    /// let reply = model.chat(&[Message::user(question)], &GenerateOptions::greedy(), |_| {
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(reply.text.ends_with("18只。"), "{}", reply.text);
    /// # Ok::<(), llm_tiny_model::TinyModelError>(())
    /// ```
    pub fn chat_model() -> Result<Self, TinyModelError> {
        Self::from_bytes(CHAT)
    }

    /// The embedded base model: pre-trained alone. It continues text. In the chat format it
    /// often finds its way into a problem that it has seen as text, but it does not greet, and
    /// small sums and questions about itself get an answer to something else.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::Decoder`] if the embedded weights are damaged.
    pub fn base_model() -> Result<Self, TinyModelError> {
        Self::from_bytes(BASE)
    }

    /// A model of the recipe's sizes from the bytes of a safetensors file.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::Decoder`] if the file is damaged or of other sizes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TinyModelError> {
        let decoder = checkpoint::from_bytes(Recipe::standard().config, &[bytes])?;
        Ok(Self { decoder })
    }

    /// A model from a safetensors file of the recipe's sizes, or from a folder with
    /// `config.json` and `model.safetensors` whose vocabulary is this crate's.
    ///
    /// # Errors
    ///
    /// - [`TinyModelError::Io`] if the file cannot be read.
    /// - [`TinyModelError::Decoder`] if it is damaged.
    /// - [`TinyModelError::Vocab`] if the model has another vocabulary.
    pub fn load(path: &Path) -> Result<Self, TinyModelError> {
        if !path.is_dir() {
            let bytes = std::fs::read(path).map_err(|source| TinyModelError::Io {
                path: path.to_owned(),
                source,
            })?;
            return Self::from_bytes(&bytes);
        }
        let decoder: Decoder<f32> = checkpoint::load(path)?;
        let expected = Tokenizer::embedded().vocab();
        let got = decoder.config().vocab;
        if got != expected {
            return Err(TinyModelError::Vocab { expected, got });
        }
        Ok(Self { decoder })
    }

    /// The model without its tokenizer and format.
    #[must_use]
    pub const fn decoder(&self) -> &Decoder<f32> {
        &self.decoder
    }

    /// The token ids of a conversation, up to where the model is to answer.
    ///
    /// # Errors
    ///
    /// - [`TinyModelError::ChatFormat`] if the conversation is empty or ends with an answer.
    /// - [`TinyModelError::UnknownCharacters`] if a text has characters outside the vocabulary.
    pub fn chat_prompt(messages: &[Message]) -> Result<Vec<u32>, TinyModelError> {
        let rendered = chatglm3::render(messages, Ending::GenerationPrompt)?;
        let tokenizer = Tokenizer::embedded();
        let encoded = llm_chat_format::encode(&rendered, tokenizer, LossMask::NextRole)?;
        Ok(encoded.ids)
    }

    /// The token ids of a text that is to be continued.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::UnknownCharacters`] if the text has characters outside the vocabulary.
    pub fn text_prompt(text: &str) -> Result<Vec<u32>, TinyModelError> {
        let mut ids = control_ids(&["[gMASK]", "sop"])?;
        ids.extend(Tokenizer::embedded().encode(text)?);
        Ok(ids)
    }

    /// Answers the last message of a conversation; `on_text` gets the answer piece by piece.
    ///
    /// # Errors
    ///
    /// As [`chat_prompt`](Self::chat_prompt), and [`TinyModelError::PromptTooLong`].
    pub fn chat(
        &self,
        messages: &[Message],
        options: &GenerateOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Reply, TinyModelError> {
        let prompt = Self::chat_prompt(messages)?;
        // A turn begins with a line of metadata (a tool's name, here always empty).
        let mut in_metadata = true;
        let mut reply = self.run(&prompt, options, |piece| {
            if !in_metadata {
                return on_text(piece);
            }
            match piece.split_once('\n') {
                None => ControlFlow::Continue(()),
                Some((_, rest)) => {
                    in_metadata = false;
                    if rest.is_empty() {
                        ControlFlow::Continue(())
                    } else {
                        on_text(rest)
                    }
                }
            }
        })?;
        // As it was streamed: the content, nothing of the metadata.
        reply.text = reply
            .text
            .split_once('\n')
            .map_or_else(String::new, |(_, content)| content.to_owned());
        Ok(reply)
    }

    /// Continues a text; `on_text` gets the continuation piece by piece.
    ///
    /// # Errors
    ///
    /// As [`text_prompt`](Self::text_prompt), and [`TinyModelError::PromptTooLong`].
    pub fn generate(
        &self,
        text: &str,
        options: &GenerateOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Reply, TinyModelError> {
        self.run(&Self::text_prompt(text)?, options, on_text)
    }

    /// Continues token ids.
    fn run(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Reply, TinyModelError> {
        let tokenizer = Tokenizer::embedded();
        let context = self.decoder.config().context;
        // At least one token of an answer must fit.
        let Some(room) = context.checked_sub(prompt.len()).filter(|&room| room > 0) else {
            return Err(TinyModelError::PromptTooLong {
                n_tokens: prompt.len(),
                max: context - 1,
            });
        };
        let max_new_tokens = options
            .max_new_tokens
            .unwrap_or(DEFAULT_NEW_TOKENS)
            .min(room);
        let mut session = Session::new(&self.decoder, prompt.len() + max_new_tokens)?;
        let config = GenerateConfig::new(Arc::clone(&options.sampling), max_new_tokens)
            .with_stop_ids(chatglm3::stop_ids(tokenizer))
            .with_seed(options.seed);
        let generation = generate(
            prompt,
            &config,
            |new_tokens| session.extend(new_tokens),
            |draw| match tokenizer.decode(&[draw.token], ControlTokens::Skip) {
                Ok(piece) if !piece.is_empty() => on_text(&piece),
                _ => ControlFlow::Continue(()),
            },
        )
        .map_err(|error| match error {
            GenerateError::Model(error) => TinyModelError::Decoder(error),
            GenerateError::Sampling(error) => TinyModelError::Sampling(error),
        })?;
        Ok(Reply {
            text: tokenizer.decode(&generation.tokens, ControlTokens::Skip)?,
            tokens: generation.tokens,
            log_probabilities: generation.log_probabilities,
            n_prompt_tokens: prompt.len(),
            stop: generation.stop,
        })
    }
}
