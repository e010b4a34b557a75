//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// The temperature is not a positive number. Zero is greedy decoding, which has a name of its own.
    #[error("temperature must be finite and > 0 (greedy decoding is a mode of its own), got {0}")]
    Temperature(f64),
    /// The temperature is so small that logits divided by it overflow.
    #[error(
        "logits divided by the temperature must be finite, got {logit} / {temperature} for token {token} of row {row}"
    )]
    TemperatureOverflow {
        /// Row of the logits.
        row: usize,
        /// The first token whose logit overflows.
        token: usize,
        /// Its logit.
        logit: f64,
        /// What it was to be divided by.
        temperature: f64,
    },
    /// `top_k` keeps nothing.
    #[error("top_k must be at least 1, got {0}")]
    TopK(usize),
    /// `top_p` is not a probability, or keeps nothing.
    #[error("top_p must be in (0, 1], got {0}")]
    TopP(f64),
    /// A filter that may remove everything.
    #[error("min_tokens_to_keep must be at least 1, got {0}")]
    MinTokensToKeep(usize),
    /// `min_p` is no share.
    #[error("min_p must be in [0, 1], got {0}")]
    MinP(f64),
    /// A repetition penalty that is no factor.
    #[error("repetition_penalty must be finite and > 0, got {0}")]
    RepetitionPenalty(f64),
    /// Not one context for each row.
    #[error("contexts must have length {expected} (batch), got {got}")]
    Contexts {
        /// Rows of the logits.
        expected: usize,
        /// Contexts that came.
        got: usize,
    },
    /// A logit is not a number.
    #[error("logits must not be NaN, got one for token {token} of row {row}")]
    NanLogits {
        /// Row of the logits.
        row: usize,
        /// The first token with a NaN.
        token: usize,
    },
    /// A logit is plus infinity, which no softmax has a meaning for.
    #[error("logits must be below infinity, got infinity for token {token} of row {row}")]
    InfiniteLogits {
        /// Row of the logits.
        row: usize,
        /// The first token with it.
        token: usize,
    },
    /// All tokens of a row are masked out.
    #[error("row {row} must have a logit above -inf, got none")]
    MaskedRow {
        /// Row of the logits.
        row: usize,
    },
    /// There are no tokens to choose from, or more than token ids.
    #[error("vocab must be in 1..=2^32, got {0}")]
    Vocab(usize),
    /// Not one uniform number for each row.
    #[error("uniforms must have length {expected} (batch), got {got}")]
    UniformsLen {
        /// Rows of the logits.
        expected: usize,
        /// Numbers that came.
        got: usize,
    },
    /// A number that is not from a uniform distribution over `[0, 1)`.
    #[error("a uniform number must be in [0, 1), got {0}")]
    Uniform(f64),
    /// A probability is negative, infinite or NaN.
    #[error("probabilities must be finite and >= 0, got {value} for token {token}")]
    Probability {
        /// The first token with such a probability.
        token: usize,
        /// The probability.
        value: f64,
    },
    /// The probabilities are all zero, or their sum overflows.
    #[error("the sum of the probabilities must be finite and > 0, got {0}")]
    ProbabilitySum(f64),
    /// There is nothing to continue.
    #[error("the prompt must have at least one token, got none")]
    EmptyPrompt,
}

impl SamplingError {
    /// The same error about another row.
    pub(crate) fn in_row(mut self, new: usize) -> Self {
        if let Self::TemperatureOverflow { row, .. }
        | Self::NanLogits { row, .. }
        | Self::InfiniteLogits { row, .. }
        | Self::MaskedRow { row } = &mut self
        {
            *row = new;
        }
        self
    }
}
