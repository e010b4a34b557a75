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
    /// `typical_p` is not a probability, or keeps nothing.
    #[error("typical_p must be in (0, 1], got {0}")]
    TypicalP(f64),
    /// `epsilon_cutoff` is not a probability, or no bound.
    #[error("epsilon_cutoff must be in (0, 1), got {0}")]
    EpsilonCutoff(f64),
    /// `eta_cutoff` is not a probability, or no bound.
    #[error("eta_cutoff must be in (0, 1), got {0}")]
    EtaCutoff(f64),
    /// `top_h` is no share of an entropy, or keeps nothing.
    #[error("top_h must be in (0, 1], got {0}")]
    TopH(f64),
    /// Sequences of no tokens cannot repeat.
    #[error("ngram_size must be at least 1, got {0}")]
    NgramSize(usize),
    /// A bias that is NaN or infinity. Minus infinity is allowed: it forbids.
    #[error("a bias must be finite or -inf, got {0}")]
    SequenceBias(f64),
    /// A sequence to be biased or forbidden has no tokens.
    #[error("sequence {index} must have at least one token, got none")]
    EmptySequence {
        /// Which of the sequences.
        index: usize,
    },
    /// A token that the vocabulary does not have.
    #[error("token ids must be below {vocab} (vocab), got {token}")]
    TokenId {
        /// The first such id.
        token: u32,
        /// Number of token ids.
        vocab: usize,
    },
    /// The caller's list of allowed tokens is empty.
    #[error("row {row} must have an allowed token, got none")]
    NoAllowedTokens {
        /// Row of the logits.
        row: usize,
    },
    /// The rows are not whole groups of beams.
    #[error("batch must be a multiple of n_beams, which is at least 1, got {batch} and {n_beams}")]
    Beams {
        /// Rows of the logits.
        batch: usize,
        /// Rows of a group.
        n_beams: usize,
    },
    /// A row that has no source.
    #[error("sources must have one for row {row} ({n_beams} rows each), got {len}")]
    Source {
        /// Row of the logits.
        row: usize,
        /// Rows that share a source.
        n_beams: usize,
        /// Sources that there are.
        len: usize,
    },
    /// What end tokens are multiplied with at each step is no factor.
    #[error("the factor of a length penalty must be finite and > 0, got {0}")]
    LengthFactor(f64),
    /// A scale of guidance that is no number.
    #[error("guidance_scale must be finite, got {0}")]
    GuidanceScale(f64),
    /// The two sets of logits do not have the same shape.
    #[error("unconditional must be {expected:?} (batch, vocab), got {got:?}")]
    GuidanceShape {
        /// Shape of the conditional logits.
        expected: (usize, usize),
        /// Shape of the unconditional ones.
        got: (usize, usize),
    },
    /// Guidance goes beyond the largest number.
    #[error("guided logits must be finite, got an overflow for token {token} of row {row}")]
    GuidanceOverflow {
        /// Row of the logits.
        row: usize,
        /// The first such token.
        token: usize,
    },
    /// A share of green tokens that leaves no color out.
    #[error("green_ratio must be in (0, 1), got {0}")]
    GreenRatio(f64),
    /// What green tokens get is no number.
    #[error("watermark_bias must be finite, got {0}")]
    WatermarkBias(f64),
    /// A watermark whose colors depend on no token.
    #[error("watermark_context must be at least 1, got {0}")]
    WatermarkContext(usize),
    /// A tournament of no rounds, or of more than there are coins.
    #[error("depth must be in 1..=128, got {0}")]
    TournamentDepth(usize),
    /// Not a row of coins for each logit.
    #[error("coins must be {expected:?} (batch, vocab) by depth, got {got:?}")]
    Coins {
        /// Shape of the logits.
        expected: (usize, usize),
        /// The first two axes of the coins.
        got: (usize, usize),
    },
    /// Too few tokens to look for a watermark in.
    #[error("a watermark needs at least {needed} tokens to be looked for, got {got}")]
    WatermarkTokens {
        /// One more than the context.
        needed: usize,
        /// Tokens that came.
        got: usize,
    },
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
        | Self::NoAllowedTokens { row }
        | Self::MaskedRow { row } = &mut self
        {
            *row = new;
        }
        self
    }
}
