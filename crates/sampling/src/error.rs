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
    /// A search without beams.
    #[error("n_beams must be at least 1, got {0}")]
    Beams(usize),
    /// More beams than rows can be counted.
    #[error("prompts * n_beams must be below 2^32, got {prompts} * {n_beams}")]
    BeamRowsOverflow {
        /// Number of prompts.
        prompts: usize,
        /// Beams for each of them.
        n_beams: usize,
    },
    /// More hypotheses than beams are wanted, or none.
    #[error("n_return must be in 1..={n_beams} (n_beams), got {n_return}")]
    BeamReturn {
        /// What was asked for.
        n_return: usize,
        /// Beams for each prompt.
        n_beams: usize,
    },
    /// Groups that do not share the beams evenly.
    #[error("n_groups must be a divisor of {n_beams} (n_beams), got {n_groups}")]
    BeamGroups {
        /// What was asked for.
        n_groups: usize,
        /// Beams for each prompt.
        n_beams: usize,
    },
    /// The exponent of a length rule is no number.
    #[error("a length penalty must be finite, got {0}")]
    LengthPenalty(f64),
    /// A diversity penalty that is none.
    #[error("the diversity penalty must be finite and >= 0, got {0}")]
    DiversityPenalty(f64),
    /// Not one row of logits for each beam.
    #[error("logits must have {expected} rows (prompts * n_beams), got {got}")]
    BeamLogits {
        /// Prompts times beams.
        expected: usize,
        /// Rows that came.
        got: usize,
    },
    /// A step after the end of a search.
    #[error("a search that is done must not be stepped, got a step")]
    SearchDone,
    /// Not one stream of random numbers for each prompt.
    #[error("streams must have length {expected} (prompts), got {got}")]
    BeamStreams {
        /// Number of prompts.
        expected: usize,
        /// Streams that came.
        got: usize,
    },
    /// More draws in one step than there are numbers.
    #[error("n_candidates must be at most 32768 to be drawn, got {0}")]
    BeamDraws(usize),
    /// Uniform numbers of another shape.
    #[error("uniforms must have shape {expected:?} (prompts, n_candidates), got {got:?}")]
    BeamUniforms {
        /// Prompts, candidates.
        expected: [usize; 2],
        /// What came.
        got: [usize; 2],
    },
    /// Not one token for each step of logits.
    #[error("tokens must have shape {expected:?} (batch, seq of the logits), got {got:?}")]
    TransitionShape {
        /// The first two axes of the logits.
        expected: [usize; 2],
        /// What came.
        got: [usize; 2],
    },
    /// A chosen token that the vocabulary does not have.
    #[error("chosen tokens must be below {vocab} (vocab), got {token}")]
    TransitionToken {
        /// The token.
        token: u32,
        /// Number of token ids.
        vocab: usize,
    },
    /// A constraint that asks for nothing.
    #[error(
        "each alternative of a constraint must have a token, got none in constraint {constraint}"
    )]
    EmptyConstraint {
        /// Index of the constraint.
        constraint: usize,
    },
    /// One alternative of a constraint begins with another, which alone would do.
    #[error(
        "no alternative of a constraint may begin with another, got such a one in constraint {constraint}"
    )]
    ConstraintPrefix {
        /// Index of the constraint.
        constraint: usize,
    },
    /// A constraint for which there is not enough room.
    #[error(
        "a constraint must have an alternative of at most {max_new_tokens} tokens (max_new_tokens), got {shortest} in constraint {constraint}"
    )]
    ConstraintLen {
        /// Index of the constraint.
        constraint: usize,
        /// Tokens of its shortest alternative.
        shortest: usize,
        /// Tokens that may be made.
        max_new_tokens: usize,
    },
    /// A constraint that asks for a token that ends the sequence.
    #[error("a constraint must not have a stop token, got {token} in constraint {constraint}")]
    ConstraintStop {
        /// Index of the constraint.
        constraint: usize,
        /// The stop token.
        token: u32,
    },
    /// A constraint that asks for a token that the vocabulary does not have.
    #[error(
        "tokens of constraints must be below {vocab} (vocab), got {token} in constraint {constraint}"
    )]
    ConstraintToken {
        /// Index of the constraint.
        constraint: usize,
        /// The token.
        token: u32,
        /// Number of token ids.
        vocab: usize,
    },
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
