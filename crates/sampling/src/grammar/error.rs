//! What can be wrong with a grammar.

use crate::SamplingError;

use super::{MAX_DEPTH, MAX_SOURCE};

/// What a grammar can be refused for, one variant per rule. They carry texts, which [`SamplingError`] does not; what can
/// go wrong while a row follows a grammar is there.
///
/// `at` is the place in a schema as a JSON Pointer (RFC 6901), empty for the whole.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// A rule that a vocabulary shares with logits.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The tokens of a vocabulary are too long to be numbered.
    #[error("the tokens of a vocabulary must have fewer than 2^32 bytes in all, got {0} or more")]
    VocabularyBytes(usize),
    /// The source is too long.
    #[error("a pattern or schema must have at most {MAX_SOURCE} bytes, got {0}")]
    SourceLen(usize),
    /// The pattern is no regular expression.
    #[error("the pattern must be a regular expression: {message}, at byte {offset}")]
    Regex {
        /// Where in the pattern.
        offset: usize,
        /// What is wrong there.
        message: String,
    },
    /// The pattern asks for what an automaton over bytes cannot do.
    #[error("the pattern must be one for an automaton over bytes: {0}")]
    Unsupported(String),
    /// The grammar would be too large, by one of the limits of [`grammar`](super).
    #[error("a grammar must have at most {limit} {what}, got more")]
    TooLarge {
        /// What there would be too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// No text at all is allowed.
    #[error("a grammar must allow at least one text, got none")]
    NoText,
    /// No allowed text can be written in these tokens.
    #[error("a text that the grammar allows must be a sequence of tokens, got none that is")]
    NoTokens,
    /// The schema is no JSON.
    #[error("the schema must be JSON: {message}, in line {line} column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A keyword has a value that it cannot have, or a schema is neither an object nor true or false.
    #[error("the value at `{at}` must be {expected}")]
    Keyword {
        /// Where in the schema.
        at: String,
        /// What must stand there.
        expected: &'static str,
    },
    /// A keyword that is not known here, or not beside the others.
    #[error("{keyword} must not be used here, at `{at}`: {reason}")]
    UnsupportedKeyword {
        /// Where in the schema.
        at: String,
        /// The keyword.
        keyword: String,
        /// Why not.
        reason: &'static str,
    },
    /// A pattern of the schema is refused.
    #[error("at `{at}`: {source}")]
    Pattern {
        /// Where in the schema.
        at: String,
        /// Why.
        source: Box<GrammarError>,
    },
    /// A reference that leads nowhere.
    #[error(
        "a reference must be the JSON Pointer of a place in the schema, got {reference} at `{at}`"
    )]
    Reference {
        /// Where in the schema.
        at: String,
        /// The reference.
        reference: String,
    },
    /// A schema that contains itself: its texts are no regular language.
    #[error("a schema must not contain itself, got {reference} inside itself at `{at}`")]
    Recursion {
        /// Where in the schema.
        at: String,
        /// The reference.
        reference: String,
    },
    /// Schemas in schemas without end.
    #[error("schemas must be at most {MAX_DEPTH} deep, got more at `{at}`")]
    Depth {
        /// Where in the schema.
        at: String,
    },
}

impl GrammarError {
    pub(super) const fn too_large(what: &'static str, limit: usize) -> Self {
        Self::TooLarge { what, limit }
    }
}
