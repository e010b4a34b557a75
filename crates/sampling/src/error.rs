//! Everything this crate can refuse.

use crate::Dialect;

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
    BeamRows {
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
    /// A setting, or a place for a processor, that a library does not have.
    #[error("{dialect} has no setting {setting}")]
    NotInDialect {
        /// The library.
        dialect: Dialect,
        /// Name of the setting or place.
        setting: &'static str,
    },
    /// A setting that is given twice.
    #[error("a setting must not be given twice, got {0} again")]
    SettingTwice(&'static str),
    /// A number that the interface of a library does not take.
    #[error("{setting} must be in [{least}, {most}] for {dialect}, got {value}")]
    DialectRange {
        /// The library.
        dialect: Dialect,
        /// Name of the setting.
        setting: &'static str,
        /// What came.
        value: f64,
        /// The least value that is allowed.
        least: f64,
        /// The largest value that is allowed.
        most: f64,
    },
    /// A flag that has no meaning without another.
    #[error("{flag} needs {other} (above 1), which is not set")]
    FlagNeeds {
        /// The flag.
        flag: &'static str,
        /// What it needs.
        other: &'static str,
    },
    /// Two flags that do not go together.
    #[error("{flag} must not come with {other}: they ask for different modes")]
    FlagConflict {
        /// One flag.
        flag: &'static str,
        /// The other.
        other: &'static str,
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
    /// An axis of an array does not have the length that another argument gives it.
    #[error("{array} must have {axis} {expected}, got {got}")]
    Axis {
        /// Name of the array or list.
        array: &'static str,
        /// Name of the axis.
        axis: &'static str,
        /// What another argument says.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A row has more drafted tokens than there is room for.
    #[error("draft_lens must be at most {max} (draft), got {got} for row {row}")]
    DraftLen {
        /// Row of the batch.
        row: usize,
        /// The axis `draft`.
        max: usize,
        /// What came.
        got: usize,
    },
    /// A drafted token that the vocabulary does not have.
    #[error(
        "draft_tokens must be below {vocab} (vocab), got {token} at position {position} of row {row}"
    )]
    DraftToken {
        /// Row of the batch.
        row: usize,
        /// Position in the draft.
        position: usize,
        /// The token.
        token: u32,
        /// Number of token ids.
        vocab: usize,
    },
    /// A drafted token that the draft's own distribution does not allow, so that it was not drawn from there.
    #[error(
        "a drafted token must have a draft probability > 0, got 0 for token {token} at position {position} of row {row}"
    )]
    DraftProbability {
        /// Row of the batch.
        row: usize,
        /// Position in the draft.
        position: usize,
        /// The token.
        token: u32,
    },
    /// A confidence below which drafting stops that is no probability.
    #[error("the confidence threshold must be in [0, 1], got {0}")]
    Confidence(f64),
    /// A draft that may never have a token.
    #[error("the draft length must be at least 1, got {0}")]
    DraftLength(usize),
    /// N-grams without tokens.
    #[error("max_ngram must be at least 1, got {0}")]
    MaxNgram(usize),
    /// A lookup of no tokens.
    #[error("max_tokens must be at least 1, got {0}")]
    MaxTokens(usize),
    /// The weight of the degeneration penalty is no share.
    #[error("alpha must be in [0, 1], got {0}")]
    Alpha(f64),
    /// There are not so many tokens to be candidates.
    #[error("top_k must be at most {vocab} (vocab), got {got}")]
    TooManyCandidates {
        /// What was asked for.
        got: usize,
        /// Number of token ids.
        vocab: usize,
    },
    /// A hidden state has no direction to compare.
    #[error("{array} must be finite, got {value} at [{}, {}, {}]", index[0], index[1], index[2])]
    Hidden {
        /// Name of the array.
        array: &'static str,
        /// Row, candidate or position, feature.
        index: [usize; 3],
        /// The value.
        value: f64,
    },
    /// The degeneration penalty has nothing to compare with.
    #[error("row {row} must have a context position that is not masked, got none")]
    NoContext {
        /// Row of the batch.
        row: usize,
    },
    /// There are no premature layers to contrast with.
    #[error("premature_logits must have at least 1 layer, got {0}")]
    Layers(usize),
    /// A premature layer rules out a token that the last layer proposes, so that their ratio has no bound.
    #[error(
        "premature logits must be above -inf where the final ones stay, got -inf for token {token} of row {row} in layer {layer}"
    )]
    PrematureMasked {
        /// Index among the premature layers.
        layer: usize,
        /// Row of the batch.
        row: usize,
        /// The first such token.
        token: usize,
    },
    /// The share of the largest probability is no share.
    #[error("relative_top must be in [0, 1], got {0}")]
    RelativeTop(f64),
    /// There is nothing to choose from.
    #[error("there must be at least one sample to choose from, got none")]
    NoSamples,
    /// A sample without tokens has no likelihood to compare.
    #[error("a sample must have at least one token, got none in sample {0}")]
    EmptySample(usize),
    /// A log-probability that is none.
    #[error("log-probabilities must be <= 0, got {value} for token {position} of sample {sample}")]
    LogProbability {
        /// Index of the sample.
        sample: usize,
        /// Index of its token.
        position: usize,
        /// The value.
        value: f64,
    },
    /// A vote that cannot be counted.
    #[error("weights must be finite and >= 0, got {value} for sample {sample}")]
    Weight {
        /// Index of the sample.
        sample: usize,
        /// The value.
        value: f64,
    },
    /// A token that was not among those to choose from.
    #[error("the token must be a candidate, got {0}")]
    NotCandidate(u32),
    /// A stop string that every text contains.
    #[error("a stop string must not be empty, got an empty one at index {0}")]
    EmptyStopString(usize),
    /// Stop strings that are too long to be compiled.
    #[error("stop strings must have fewer than 2^32 bytes in all, got {0}")]
    StopStringsLen(usize),
    /// A row has a token (the second number) that its grammar does not allow where it stands.
    #[error("row {0} must follow its grammar, got token {1}, which is not allowed there")]
    GrammarToken(usize, u32),
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
    #[error("chosen tokens must be below {vocab} (vocab), got {token} for row {row}")]
    TransitionToken {
        /// Row of the logits: sequence times steps plus step.
        row: usize,
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
