//! The settings of chains, and the order in which a library runs them.

use crate::dry::Dry;
use crate::exponential_decay_length::ExponentialDecayLength;
use crate::forced_tokens::ForcedEos;
use crate::no_repeat_ngram::EncoderNoRepeatNgram;
use crate::repetition_penalty::EncoderRepetitionPenalty;
use crate::sequence_bias::SequenceBias;
use crate::suppress::BeginSuppress;
use crate::watermark::Watermark;
use crate::{Dialect, SamplingError};

/// One setting of a [`ChainConfig`](super::ChainConfig). What the dialect decides (ties, windows, order) is not in it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Setting {
    /// Biases of sequences (Hugging Face).
    SequenceBias(SequenceBias),
    /// A number for each of some tokens; between -100 and 100 for OpenAI.
    LogitBias(Vec<(u32, f64)>),
    /// The only tokens that may come (vLLM). Hugging Face has a function for this: insert a processor at `prefix_allowed`.
    AllowedTokens(Vec<u32>),
    /// A penalty above 1 prefers tokens of the source (Hugging Face).
    EncoderRepetitionPenalty(EncoderRepetitionPenalty),
    /// A factor: on prompt and generated tokens, or on the last few in llama.cpp.
    RepetitionPenalty(f64),
    /// How many tokens of the prompt a repetition penalty passes over (Hugging Face).
    PromptIgnoreLength(usize),
    /// Taken off for each time a token occurred.
    FrequencyPenalty(f64),
    /// Taken off if a token occurred.
    PresencePenalty(f64),
    /// How many tokens the penalties look back (llama.cpp): 64 if not set.
    PenaltyLastN(usize),
    /// Sequences of so many tokens may not come twice (Hugging Face).
    NoRepeatNgram(usize),
    /// Sequences of the source may not come again (Hugging Face).
    EncoderNoRepeatNgram(EncoderNoRepeatNgram),
    /// Sequences that may not come. In Hugging Face, stop tokens cannot be among them.
    BadWords(Vec<Vec<u32>>),
    /// No stop token before so many tokens, the prompt included (Hugging Face).
    MinLength(usize),
    /// No stop token before so many new tokens.
    MinNewTokens(usize),
    /// The token after the first (Hugging Face).
    ForcedBos(u32),
    /// The token at the end (Hugging Face).
    ForcedEos(ForcedEos),
    /// Replaces NaN and infinities (Hugging Face).
    RemoveInvalid,
    /// Stop tokens become likelier from step to step (Hugging Face).
    ExponentialDecayLength(ExponentialDecayLength),
    /// Tokens that may never come (Hugging Face).
    Suppress(Vec<u32>),
    /// Tokens that may not come first (Hugging Face).
    BeginSuppress(BeginSuppress),
    /// Penalty on long repeats (llama.cpp). It has its own window.
    Dry(Dry),
    /// Greedy decoding in the words of Hugging Face, `do_sample = False`: only the likeliest token stays, and filters do not run.
    Greedy,
    /// What logits are divided by; each dialect has its own meaning of 0.
    Temperature(f64),
    /// How far the temperature follows the entropy (llama.cpp); its middle is [`Temperature`](Self::Temperature), 1 if not set.
    DynamicTemperature {
        /// Distance from the middle.
        range: f64,
        /// Usually 1.
        exponent: f64,
    },
    /// Share of the entropy (Hugging Face).
    TopH(f64),
    /// Standard deviations below the maximum (llama.cpp).
    TopNSigma(f64),
    /// Number of tokens to keep; 0 keeps all, as in each of the libraries that have the setting.
    TopK(usize),
    /// Probability to keep.
    TopP(f64),
    /// Share of the largest probability.
    MinP(f64),
    /// Probability to keep of the most typical tokens.
    Typical(f64),
    /// Least probability (Hugging Face).
    EpsilonCutoff(f64),
    /// Least probability, which follows the entropy (Hugging Face).
    EtaCutoff(f64),
    /// Leaves out the likeliest tokens, sometimes (llama.cpp).
    Xtc {
        /// How often.
        probability: f64,
        /// From which probability on.
        threshold: f64,
    },
    /// Green tokens become likelier (Hugging Face).
    Watermark(Watermark),
    /// Log-probabilities at the end (Hugging Face).
    Renormalize,
}

impl Setting {
    /// Its name, as in [`order`].
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SequenceBias(_) => "sequence_bias",
            Self::LogitBias(_) => "logit_bias",
            Self::AllowedTokens(_) => "allowed_tokens",
            Self::EncoderRepetitionPenalty(_) => "encoder_repetition_penalty",
            Self::RepetitionPenalty(_) => "repetition_penalty",
            Self::PromptIgnoreLength(_) => "prompt_ignore_length",
            Self::FrequencyPenalty(_) => "frequency_penalty",
            Self::PresencePenalty(_) => "presence_penalty",
            Self::PenaltyLastN(_) => "penalty_last_n",
            Self::NoRepeatNgram(_) => "no_repeat_ngram",
            Self::EncoderNoRepeatNgram(_) => "encoder_no_repeat_ngram",
            Self::BadWords(_) => "bad_words",
            Self::MinLength(_) => "min_length",
            Self::MinNewTokens(_) => "min_new_tokens",
            Self::ForcedBos(_) => "forced_bos",
            Self::ForcedEos(_) => "forced_eos",
            Self::RemoveInvalid => "remove_invalid",
            Self::ExponentialDecayLength(_) => "exponential_decay_length",
            Self::Suppress(_) => "suppress",
            Self::BeginSuppress(_) => "begin_suppress",
            Self::Dry(_) => "dry",
            Self::Greedy => "greedy",
            Self::Temperature(_) => "temperature",
            Self::DynamicTemperature { .. } => "dynamic_temperature",
            Self::TopH(_) => "top_h",
            Self::TopNSigma(_) => "top_n_sigma",
            Self::TopK(_) => "top_k",
            Self::TopP(_) => "top_p",
            Self::MinP(_) => "min_p",
            Self::Typical(_) => "typical",
            Self::EpsilonCutoff(_) => "epsilon_cutoff",
            Self::EtaCutoff(_) => "eta_cutoff",
            Self::Xtc { .. } => "xtc",
            Self::Watermark(_) => "watermark",
            Self::Renormalize => "renormalize",
        }
    }
}

/// `_get_logits_processor` of transformers 5.23.
const HUGGING_FACE: &[&str] = &[
    "sequence_bias",
    "encoder_repetition_penalty",
    "prompt_ignore_length",
    "repetition_penalty",
    "no_repeat_ngram",
    "encoder_no_repeat_ngram",
    "bad_words",
    "min_length",
    "min_new_tokens",
    "prefix_allowed",
    "forced_bos",
    "forced_eos",
    "remove_invalid",
    "exponential_decay_length",
    "suppress",
    "begin_suppress",
    "user",
    "temperature",
    "top_h",
    "top_k",
    "top_p",
    "min_p",
    "typical",
    "epsilon_cutoff",
    "eta_cutoff",
    "watermark",
    "renormalize",
    "greedy",
];

/// `common_sampler_init` of llama.cpp with the default list of samplers.
const LLAMA_CPP: &[&str] = &[
    "logit_bias",
    "user",
    "penalty_last_n",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "dry",
    "top_n_sigma",
    "top_k",
    "typical",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "dynamic_temperature",
];

/// `Sampler` of vLLM's engine version 1.
const VLLM: &[&str] = &[
    "allowed_tokens",
    "bad_words",
    "min_new_tokens",
    "logit_bias",
    "user",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "min_p",
    "top_k",
    "top_p",
];

/// The settings of OpenAI's interface. Their order is not published; this one is vLLM's.
const OPENAI: &[&str] = &[
    "logit_bias",
    "user",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "top_p",
];

/// The names of a dialect's settings, in the order in which they run.
///
/// Two names stand for no setting, but for a place where processors can be inserted: `user`, and Hugging Face's `prefix_allowed`.
///
/// # Example
///
/// ```
/// use llm_sampling::Dialect;
/// use llm_sampling::chain::order;
///
/// let place = |dialect, name| order(dialect).iter().position(|n| *n == name);
/// assert!(place(Dialect::HuggingFace, "temperature") < place(Dialect::HuggingFace, "top_p"));
/// assert!(place(Dialect::LlamaCpp, "temperature") > place(Dialect::LlamaCpp, "top_p"));
/// assert_eq!(place(Dialect::Vllm, "typical"), None);
/// ```
#[must_use]
pub const fn order(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::HuggingFace => HUGGING_FACE,
        Dialect::LlamaCpp => LLAMA_CPP,
        Dialect::Vllm => VLLM,
        Dialect::OpenAi => OPENAI,
    }
}

/// Where in the order of the dialect a name stands.
pub(super) fn place(dialect: Dialect, name: &'static str) -> Result<usize, SamplingError> {
    order(dialect)
        .iter()
        .position(|other| *other == name)
        .ok_or(SamplingError::NotInDialect {
            dialect,
            setting: name,
        })
}
