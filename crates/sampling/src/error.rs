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
    /// A presence penalty that is no number.
    #[error("presence_penalty must be finite, got {0}")]
    PresencePenalty(f64),
    /// A frequency penalty that is no number.
    #[error("frequency_penalty must be finite, got {0}")]
    FrequencyPenalty(f64),
    /// A bias that no logit can take, or one that OpenAI does not take.
    #[error("the bias of token {token} must be in [{least}, {most}], got {bias}")]
    LogitBias {
        /// The token.
        token: u32,
        /// The sum of its biases.
        bias: f64,
        /// The least bias that is allowed.
        least: f64,
        /// The largest bias that is allowed.
        most: f64,
    },
    /// The range of a dynamic temperature is negative or no number, or its upper end overflows.
    #[error(
        "the range of the temperature must be finite and >= 0, got {range} around {temperature}"
    )]
    TemperatureRange {
        /// The temperature in the middle.
        temperature: f64,
        /// How far it may go.
        range: f64,
    },
    /// The exponent of a dynamic temperature is negative or no number.
    #[error("the exponent of the temperature must be finite and >= 0, got {0}")]
    TemperatureExponent(f64),
    /// `top_n_sigma` is no number of standard deviations.
    #[error("top_n_sigma must be finite and > 0, got {0}")]
    TopNSigma(f64),
    /// `top_a` is no share.
    #[error("top_a must be in [0, 1], got {0}")]
    TopA(f64),
    /// `tail_free` is no share.
    #[error("tail_free must be in [0, 1], got {0}")]
    TailFree(f64),
    /// The probability of XTC is none.
    #[error("xtc_probability must be in [0, 1], got {0}")]
    XtcProbability(f64),
    /// The threshold of XTC is no probability.
    #[error("xtc_threshold must be in [0, 1], got {0}")]
    XtcThreshold(f64),
    /// The multiplier of DRY is negative or no number.
    #[error("dry_multiplier must be finite and >= 0, got {0}")]
    DryMultiplier(f64),
    /// The base of DRY would make longer repeats cheaper, or is no number.
    #[error("dry_base must be finite and >= 1, got {0}")]
    DryBase(f64),
    /// A sequence breaker without tokens.
    #[error("each sequence breaker must have at least one token, got none in breaker {0}")]
    EmptyBreaker(usize),
    /// The target of mirostat is negative or no number.
    #[error("mirostat_tau must be finite and >= 0, got {0}")]
    MirostatTau(f64),
    /// The learning rate of mirostat is negative or no number.
    #[error("mirostat_eta must be finite and >= 0, got {0}")]
    MirostatEta(f64),
    /// Mirostat 1 needs two tokens to estimate from.
    #[error("mirostat must estimate from at least 2 tokens, got {0}")]
    MirostatEstimate(usize),
    /// The state of mirostat is not a number.
    #[error("mirostat_mu must be a number, got {0}")]
    MirostatMu(f64),
    /// The target of adaptive-p is no probability.
    #[error("adaptive_target must be in [0, 1], got {0}")]
    AdaptiveTarget(f64),
    /// The decay of adaptive-p would forget nothing, or is no number.
    #[error("adaptive_decay must be in [0, 1), got {0}")]
    AdaptiveDecay(f64),
    /// The state of adaptive-p has no mean.
    #[error(
        "the mean of adaptive-p must be finite with a weight > 0, got {weighted_sum} / {total_weight}"
    )]
    AdaptiveState {
        /// Sum of the probabilities, older ones less.
        weighted_sum: f64,
        /// Sum of their weights.
        total_weight: f64,
    },
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
