//! Prompt lookup: drafts copied from where the last tokens occurred before.

use crate::SamplingError;

/// Which of several places with the same last tokens is copied from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MatchOrder {
    /// The first one: Hugging Face.
    Oldest,
    /// The last one before the end itself: what was said most recently.
    Newest,
}

/// What the length of the sequence allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LengthLimit {
    /// Anything.
    None,
    /// With drafted tokens and the one that the target adds, no more than so many tokens.
    Room(usize),
    /// Hugging Face's `max_length`: no draft if there is room for one token only; else nothing is copied from beyond it.
    /// A draft may be longer than there is room for.
    HuggingFace(usize),
}

/// Settings of [`candidates`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptLookupConfig {
    /// Most last tokens that are looked for; then one less, down to a single one.
    #[doc(alias = "max_matching_ngram_size")]
    pub max_ngram: usize,
    /// Most tokens of a draft.
    #[doc(alias = "num_output_tokens")]
    pub max_tokens: usize,
    /// Which place is copied from.
    pub order: MatchOrder,
    /// Tokens that a draft ends before.
    #[doc(alias = "eos_token_id")]
    pub stop_ids: Vec<u32>,
    /// What the length of the sequence allows.
    pub limit: LengthLimit,
}

impl PromptLookupConfig {
    /// The oldest match, no stop tokens, no limit.
    ///
    /// # Errors
    ///
    /// [`SamplingError::MaxNgram`], [`SamplingError::MaxTokens`] if one is 0.
    pub const fn new(max_ngram: usize, max_tokens: usize) -> Result<Self, SamplingError> {
        if max_ngram == 0 {
            return Err(SamplingError::MaxNgram(max_ngram));
        }
        if max_tokens == 0 {
            return Err(SamplingError::MaxTokens(max_tokens));
        }
        Ok(Self {
            max_ngram,
            max_tokens,
            order: MatchOrder::Oldest,
            stop_ids: Vec::new(),
            limit: LengthLimit::None,
        })
    }

    /// Sets the [`order`](Self::order).
    #[must_use]
    pub const fn with_order(mut self, order: MatchOrder) -> Self {
        self.order = order;
        self
    }

    /// Sets the [`stop_ids`](Self::stop_ids).
    #[must_use]
    pub fn with_stop_ids(mut self, stop_ids: Vec<u32>) -> Self {
        self.stop_ids = stop_ids;
        self
    }

    /// Sets the [`limit`](Self::limit).
    #[must_use]
    pub const fn with_limit(mut self, limit: LengthLimit) -> Self {
        self.limit = limit;
        self
    }
}

/// The tokens that followed where the last ones of a sequence occurred before.
///
/// ```text
/// for n = min(max_ngram, seq - 1), .., 1:
///     j = the first (or last) place with tokens[j..j + n] = tokens[seq - n..], j + n < seq
///     draft = tokens[j + n..][..max_tokens], up to the first stop token
/// ```
///
/// The first `n` with a place decides, even if a stop token leaves nothing of its draft. Verify a draft with
/// [`speculative::verify`](crate::search::speculative::verify), without draft logits.
///
/// # Shapes
///
/// - `tokens`: `[seq]`, prompt and what was made
/// - returns: a part of `tokens`; empty if nothing was found
///
/// # Errors
///
/// [`SamplingError::MaxNgram`], [`SamplingError::MaxTokens`] if one was set to 0.
///
/// # Precision
///
/// Exact. Time is at most `seq max_ngram` comparisons for each `n`.
///
/// # Example
///
/// ```
/// use llm_sampling::search::prompt_lookup::{MatchOrder, PromptLookupConfig, candidates};
///
/// let tokens = [5, 1, 2, 7, 8, 1, 2, 9, 4, 1, 2];
/// let config = PromptLookupConfig::new(2, 3)?;
/// assert_eq!(candidates(&tokens, &config)?, [7, 8, 1]);
/// let newest = config.with_order(MatchOrder::Newest);
/// assert_eq!(candidates(&tokens, &newest)?, [9, 4, 1]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Saxena 2023, "Prompt Lookup Decoding"; `PromptLookupCandidateGenerator` of transformers 5.23.
pub fn candidates<'a>(
    tokens: &'a [u32],
    config: &PromptLookupConfig,
) -> Result<&'a [u32], SamplingError> {
    if config.max_ngram == 0 {
        return Err(SamplingError::MaxNgram(config.max_ngram));
    }
    if config.max_tokens == 0 {
        return Err(SamplingError::MaxTokens(config.max_tokens));
    }
    let seq = tokens.len();
    let (max_tokens, last) = match config.limit {
        LengthLimit::None => (config.max_tokens, seq),
        LengthLimit::Room(max) => (
            config
                .max_tokens
                .min(max.saturating_sub(seq.saturating_add(1))),
            seq,
        ),
        LengthLimit::HuggingFace(max) if max == seq + 1 => return Ok(&[]),
        LengthLimit::HuggingFace(max) => (config.max_tokens, seq.min(max)),
    };
    if max_tokens == 0 {
        return Ok(&[]);
    }
    for n in (1..=config.max_ngram.min(seq.saturating_sub(1))).rev() {
        let ngram = &tokens[seq - n..];
        // With a token behind it, so not the n-gram at the end.
        let mut places = tokens[..last.saturating_sub(1)].windows(n);
        let is_match = |window: &[u32]| window == ngram;
        let place = match config.order {
            MatchOrder::Oldest => places.position(is_match),
            MatchOrder::Newest => places.rposition(is_match),
        };
        let Some(start) = place.map(|place| place + n) else {
            continue;
        };
        let draft = &tokens[start..last.min(start.saturating_add(max_tokens))];
        let stop = draft.iter().position(|id| config.stop_ids.contains(id));
        return Ok(&draft[..stop.unwrap_or(draft.len())]);
    }
    Ok(&[])
}
