//! Texts that follow a regular expression or a JSON Schema, token by token.

mod automaton;
mod ecma;
mod error;
mod json;
mod json_config;
mod json_schema;
mod json_text;
mod masks;
mod pattern;
mod search;
mod vocabulary;

use core::fmt;
use core::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use regex_syntax::hir::Hir;

use self::automaton::Automaton;
pub use self::error::GrammarError;
pub use self::json_config::{JsonConfig, Whitespace};
pub use self::vocabulary::Vocabulary;
use crate::SamplingError;

/// Bytes of a pattern or schema at most.
pub const MAX_SOURCE: usize = 1 << 16;
/// States of an automaton at most.
pub const MAX_STATES: usize = 1 << 16;
/// Bytes of an automaton at most, at each stage of its making.
pub const MAX_BYTES: usize = 1 << 24;
/// Ranges of characters in the classes of a pattern at most, where `\w`, `\p{L}` and the like count as 1024.
pub const MAX_RANGES: usize = 1 << 20;
/// Parts of a schema's expression at most: literals, classes, repetitions and what they are put together with, where long ones count for more. A
/// schema that is referred to counts each time, and a pattern with anchors in alternatives as it is written out, one alternative after the other.
pub const MAX_PARTS: usize = 1 << 17;
/// Items of `prefixItems` that may be missing at most, those of the arrays around included.
pub const MAX_OPTIONAL: usize = 256;
/// Bytes of tokens that are followed at most in the search for dead ends, where tokens of one byte do not settle it.
pub const MAX_STEPS: usize = 1 << 28;
/// Pairs of states with tokens from one to the other that are kept at most in that search.
pub const MAX_EDGES: usize = 1 << 24;
/// Schemas within schemas at most.
pub const MAX_DEPTH: usize = 64;
/// Bytes of the masks that a grammar keeps at most, if not told otherwise.
pub const MASK_BYTES: usize = 1 << 26;

/// The texts that are allowed, in the tokens of a vocabulary.
///
/// ```text
/// L = the language;   t(s) = the bytes of the tokens s, one after the other
/// token v is allowed after s  <=>  t(s v w) is in L for some tokens w          so there are no dead ends
/// an end token is allowed after s  <=>  t(s) is in L;   after an end token only end tokens are
/// ```
///
/// A grammar does not change and can be shared by all rows; copies share their memory. Where a row stands is a [`GrammarState`], a small value
/// that [`advance`](Self::advance) takes and returns. Tokens need not respect any boundary: one may span several parts of the grammar, or hold
/// a part of a character.
///
/// As a [`Processor`](crate::Processor) it masks what is not allowed after the generated tokens of the context (the prompt does not count), whatever row they are
/// in: rows may be reordered, as beams are. What follows an end token is padding and not looked at. If all allowed tokens were masked before,
/// or if a text is complete, cannot go on and there are no end tokens, the row is masked wholly: a draw refuses it by its number, and a search
/// ends the beam.
///
/// # Order
///
/// Before filters that keep the likeliest tokens: these must choose among the allowed ones.
///
/// # Precision
///
/// Exact. Reading the context again takes a few nanoseconds for each byte. The mask of a state is made when it is first needed and kept, see
/// [`with_mask_bytes`](Self::with_mask_bytes); steps after that allocate nothing.
///
/// # Example
///
/// ```
/// use llm_sampling::grammar::{Grammar, Vocabulary};
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let vocabulary = Vocabulary::new(&["ye", "s", "no", "yes", "o", "<eos>"], &[5], &[])?;
/// let grammar = Grammar::regex(&vocabulary, "yes|no")?;
///
/// // Two rows: one at the start, one after "ye".
/// let mut logits = array![[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]];
/// let contexts = [Context::new(&[], &[]), Context::new(&[], &[0])];
/// processor::apply_inplace(&mut logits, &contexts, &grammar)?;
/// assert_eq!(logits, array![
///     [1.0, MASKED, 3.0, 4.0, MASKED, MASKED],
///     [MASKED, 2.0, MASKED, MASKED, MASKED, MASKED],
/// ]);
///
/// // Or step by step, with the state as a value.
/// let state = grammar.advance(grammar.start(), 3)?;
/// assert!(grammar.is_complete(state));
/// assert_eq!(grammar.allowed(state), [5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Willard, Louf 2023, arXiv:2307.09702v4 §3, with an automaton over bytes, and states from which tokens cannot finish a text left out.
#[derive(Clone)]
pub struct Grammar {
    inner: Arc<Inner>,
    mask_bytes: usize,
}

struct Inner {
    automaton: Automaton,
    vocabulary: Vocabulary,
    /// States from which tokens can finish a text.
    live: Vec<bool>,
    /// For each state that was needed, a bit for each token.
    masks: Vec<OnceLock<Box<[u32]>>>,
    mask_bytes: AtomicUsize,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar")
            .field("states", &self.n_states())
            .field("vocabulary", &self.inner.vocabulary)
            .finish_non_exhaustive()
    }
}

/// Where in its grammar a row stands. Equal states allow the same tokens for ever.
///
/// In a grammar that it is not from, it stands somewhere or nowhere; where nothing is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrammarState(u32);

impl GrammarState {
    /// After an end token: the dead state, from which no text goes on.
    const FINISHED: Self = Self(automaton::DEAD);
}

impl Grammar {
    /// The texts that match a regular expression as a whole, as if it stood between `^(?:` and `)$`.
    ///
    /// The syntax is that of the crate `regex`: no back-references, no look-around but anchors and ASCII word boundaries; classes are those of
    /// Unicode unless `(?-u)` says otherwise. Greed makes no difference.
    ///
    /// # Errors
    ///
    /// [`GrammarError::SourceLen`], [`GrammarError::Regex`], [`GrammarError::Unsupported`], [`GrammarError::TooLarge`],
    /// [`GrammarError::NoText`], [`GrammarError::NoTokens`].
    ///
    /// # Example
    ///
    /// ```
    /// use llm_sampling::grammar::{Grammar, GrammarError, Vocabulary};
    ///
    /// let vocabulary = Vocabulary::new(&["a", "b", "ab", "<eos>"], &[3], &[])?;
    /// let grammar = Grammar::regex(&vocabulary, "(?:ab)+")?;
    /// assert_eq!(grammar.allowed(grammar.start()), [0, 2]);
    /// assert_eq!(Grammar::regex(&vocabulary, "c").unwrap_err(), GrammarError::NoTokens);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn regex(vocabulary: &Vocabulary, pattern: &str) -> Result<Self, GrammarError> {
        Self::from_hir(vocabulary, &pattern::parse(pattern)?)
    }

    /// The JSON texts that are valid for a schema. The rules are at [`JsonConfig`].
    ///
    /// # Errors
    ///
    /// [`GrammarError::SourceLen`], [`GrammarError::Json`], those about places in the schema, [`GrammarError::TooLarge`],
    /// [`GrammarError::NoText`], [`GrammarError::NoTokens`].
    ///
    /// # Example
    ///
    /// See [`JsonConfig`].
    pub fn json_schema(
        vocabulary: &Vocabulary,
        schema: &str,
        config: &JsonConfig,
    ) -> Result<Self, GrammarError> {
        check_len(schema)?;
        let schema = json::parse(schema)?;
        Self::from_hir(vocabulary, &json_schema::compile(&schema, config)?)
    }

    fn from_hir(vocabulary: &Vocabulary, hir: &Hir) -> Result<Self, GrammarError> {
        let automaton = Automaton::new(hir)?;
        let live = automaton.live_by_tokens(vocabulary)?;
        if !live[automaton.start as usize] {
            return Err(GrammarError::NoTokens);
        }
        let mut masks = Vec::new();
        masks.resize_with(automaton.len(), OnceLock::new);
        Ok(Self {
            inner: Arc::new(Inner {
                automaton,
                vocabulary: vocabulary.clone(),
                live,
                masks,
                mask_bytes: AtomicUsize::new(0),
            }),
            mask_bytes: MASK_BYTES,
        })
    }

    /// Sets how many bytes of masks it keeps at most, [`MASK_BYTES`] if not set; a mask has `vocab / 8`. Others are made anew in each step. What
    /// is allowed does not depend on it.
    #[must_use]
    pub const fn with_mask_bytes(mut self, mask_bytes: usize) -> Self {
        self.mask_bytes = mask_bytes;
        self
    }

    /// The vocabulary that it is for.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.inner.vocabulary
    }

    /// States of the automaton, a dead one among them.
    #[must_use]
    pub fn n_states(&self) -> usize {
        self.inner.automaton.len()
    }

    /// Where a row without tokens stands.
    #[must_use]
    pub fn start(&self) -> GrammarState {
        GrammarState(self.inner.automaton.start)
    }

    /// The state after one more token.
    ///
    /// # Errors
    ///
    /// [`SamplingError::GrammarToken`], for row 0, if the token is not allowed.
    pub fn advance(&self, state: GrammarState, token: u32) -> Result<GrammarState, SamplingError> {
        let refused = SamplingError::GrammarToken(0, token);
        if self.inner.vocabulary.is_end(token) {
            let ends = self.is_complete(state);
            return ends.then_some(GrammarState::FINISHED).ok_or(refused);
        }
        let text = self.inner.vocabulary.text(token);
        let automaton = &self.inner.automaton;
        let next = text
            .iter()
            .try_fold(state.0, |state, &byte| automaton.next(state, byte));
        match next {
            Some(next) if !text.is_empty() && self.inner.is_live(next) => Ok(GrammarState(next)),
            _ => Err(refused),
        }
    }

    /// The state after these tokens, from the start. What follows an end token is not looked at.
    ///
    /// # Errors
    ///
    /// [`SamplingError::GrammarToken`], for row 0, with the first token that is not allowed.
    pub fn after(&self, tokens: &[u32]) -> Result<GrammarState, SamplingError> {
        let mut state = self.start();
        for &token in tokens {
            state = self.advance(state, token)?;
            if state == GrammarState::FINISHED {
                break;
            }
        }
        Ok(state)
    }

    /// True if the text so far is allowed as a whole, so that it may end here, or has.
    #[must_use]
    pub fn is_complete(&self, state: GrammarState) -> bool {
        state == GrammarState::FINISHED || self.inner.automaton.accepts(state.0)
    }

    /// True if no more text can come: after an end token, or if the text is complete and no token can follow. Then there is no need to ask the
    /// model for an end token.
    #[must_use]
    pub fn is_finished(&self, state: GrammarState) -> bool {
        let mut goes_on = false;
        self.inner.walk(state.0, &mut Vec::new(), |_| {
            goes_on = true;
            false
        });
        self.is_complete(state) && !goes_on
    }

    /// The tokens that are allowed next, in ascending order.
    #[must_use]
    pub fn allowed(&self, state: GrammarState) -> Vec<u32> {
        let mut words = Vec::new();
        self.fill_mask(state, &mut words, &mut Vec::new());
        let bits = |(i, word): (usize, u32)| {
            let bit = move |bit: &u32| word >> bit & 1 == 1;
            (0..32).filter(bit).map(move |bit| i as u32 * 32 + bit)
        };
        words.into_iter().enumerate().flat_map(bits).collect()
    }

    /// The bytes that come next in any case, as far as they are certain: a caller may add them without asking the model.
    ///
    /// They follow from the language alone; how they are cut into tokens is the caller's choice. They may end within a character.
    #[must_use]
    pub fn forced(&self, state: GrammarState) -> Vec<u8> {
        let automaton = &self.inner.automaton;
        let (mut state, mut bytes) = (state.0, Vec::new());
        while !automaton.accepts(state) {
            let next = |byte| Some((byte, automaton.next(state, byte)?));
            let mut next = (0..=255).filter_map(next);
            let (Some((byte, to)), None) = (next.next(), next.next()) else {
                break;
            };
            bytes.push(byte);
            state = to;
        }
        bytes
    }
}

impl Inner {
    fn is_live(&self, state: u32) -> bool {
        self.live.get(state as usize) == Some(&true)
    }

    /// Calls `found` with the tokens of text that are allowed, those of one text together, until it returns false.
    fn walk(&self, start: u32, memory: &mut Vec<u32>, mut found: impl FnMut(&[u32]) -> bool) {
        let step = |state, byte| self.automaton.next(state, byte);
        let found = |state, tokens: &[u32]| !self.is_live(state) || found(tokens);
        self.vocabulary.walk(start, memory, step, found);
    }
}

fn check_len(source: &str) -> Result<(), GrammarError> {
    let len = source.len();
    let fits = len <= MAX_SOURCE;
    fits.then_some(()).ok_or(GrammarError::SourceLen(len))
}
