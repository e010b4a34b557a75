//! The one error enum of this crate.

use llm_chat_format::EncodeError;

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TinyModelError {
    /// A text has characters that are not in the vocabulary.
    #[error("every character must be in the vocabulary, got {}", list(.characters))]
    UnknownCharacters {
        /// The distinct characters, in the order in which the text has them first.
        characters: Vec<char>,
    },
    /// A token id is not below the size of the vocabulary.
    #[error("token ids must be below {vocab} (vocab), got {id}")]
    TokenId {
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// More problems were asked for than there are.
    #[error("there are {available} held-out problems, got a request for {requested}")]
    TooManyProblems {
        /// How many were asked for.
        requested: usize,
        /// How many there are.
        available: usize,
    },
    /// A conversation cannot be put into the chat format.
    #[error(transparent)]
    ChatFormat(#[from] llm_chat_format::ChatFormatError),
    /// The tokenizer lacks a control token of the chat format.
    #[error("the tokenizer must have the control token {name:?}, got none")]
    ControlToken {
        /// Its name.
        name: &'static str,
    },
    /// A text encodes to a control token; it never may.
    #[error("text must never encode to a control token, got {name:?}")]
    ForgedControlToken {
        /// The name of the control token.
        name: &'static str,
    },
    /// The model refused its input or its weights.
    #[error(transparent)]
    Decoder(#[from] llm_decoder::DecoderError),
    /// A prompt leaves no room for an answer.
    #[error("a prompt may have at most {max} tokens, got {n_tokens}")]
    PromptTooLong {
        /// Tokens of the prompt.
        n_tokens: usize,
        /// Tokens that it may have.
        max: usize,
    },
    /// A loaded model has another vocabulary than the tokenizer.
    #[error("the model must have the tokenizer's {expected} tokens, got {got}")]
    Vocab {
        /// Tokens of the tokenizer.
        expected: usize,
        /// Tokens of the model.
        got: usize,
    },
    /// No token could be chosen.
    #[error(transparent)]
    Sampling(#[from] llm_sampling::SamplingError),
    /// A training step failed.
    #[error(transparent)]
    Training(#[from] llm_training::TrainingError),
    /// A saved run is damaged or belongs to another recipe.
    #[error("the saved run cannot be used: {0}")]
    State(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<EncodeError<Self>> for TinyModelError {
    fn from(error: EncodeError<Self>) -> Self {
        match error {
            EncodeError::Tokenizer(error) => error,
            EncodeError::ControlToken { name } => Self::ControlToken { name },
            EncodeError::ForgedControlToken { name, .. } => Self::ForgedControlToken { name },
            other => Self::State(other.to_string()),
        }
    }
}

/// The characters in quotes, control characters as escapes.
fn list(characters: &[char]) -> String {
    characters
        .iter()
        .map(|c| format!("{c:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}
