//! Everything this crate can refuse.

use std::path::PathBuf;

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecoderError {
    /// A size of the configuration is impossible.
    #[error("{field} must {rule}, got {got}")]
    Config {
        /// Name of the field, as in `DecoderConfig`.
        field: &'static str,
        /// What must hold.
        rule: &'static str,
        /// What came.
        got: String,
    },
    /// `config.json` is not JSON, or a key has the wrong type or is missing.
    #[error("config.json: {0}")]
    ConfigJson(String),
    /// `config.json` asks for something that this version does not compute.
    #[error("config.json: {key} = {value} is not supported, supported: {supported}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Its value in the file.
        value: String,
        /// What would be accepted.
        supported: &'static str,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A weight file is damaged or is not a safetensors file.
    #[error("the weight file is not a valid safetensors file: {0}")]
    WeightFile(String),
    /// A tensor that the configuration asks for is not in the weight file.
    #[error("the weight file has no tensor {0}")]
    MissingTensor(String),
    /// The weight file has a tensor that the configuration has no place for.
    #[error("the weight file has a tensor {0}, which the configuration has no place for")]
    UnexpectedTensor(String),
    /// A tensor of the weight file has another shape than the configuration says.
    #[error("tensor {name} must have shape {expected:?}, got {got:?}")]
    TensorShape {
        /// Name in the file.
        name: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A tensor is stored in a type that is not a float of 16 or 32 bits.
    #[error("tensor {name} must be F32, F16 or BF16, got {got}")]
    TensorType {
        /// Name in the file.
        name: String,
        /// Type in the file.
        got: String,
    },
    /// A tensor holds NaN or an infinity.
    #[error("tensor {name} must be finite, element {index} is {value}")]
    NonFinite {
        /// Name in the file.
        name: String,
        /// Row-major index of the first such element.
        index: usize,
        /// The element.
        value: f32,
    },
    /// A token id is outside the vocabulary.
    #[error("token ids must be below {vocab} (vocab), got {id} at position {position}")]
    TokenId {
        /// Position in the flattened input.
        position: usize,
        /// The id.
        id: u32,
        /// Number of tokens in the vocabulary.
        vocab: usize,
    },
    /// There is nothing to compute on.
    #[error("the input must have at least one token")]
    EmptyInput,
    /// A sequence would be longer than the cache or the context.
    #[error(
        "a sequence may have at most {capacity} tokens, {held} are held and {new} were to be added"
    )]
    ContextFull {
        /// Tokens that fit.
        capacity: usize,
        /// Tokens held already.
        held: usize,
        /// Tokens that were to be added.
        new: usize,
    },
    /// A gradient does not have the shape of what it belongs to.
    #[error("{what} must have shape {expected:?}, got {got:?}")]
    Shape {
        /// Name of the argument.
        what: &'static str,
        /// Shape that fits.
        expected: Vec<usize>,
        /// Shape that came.
        got: Vec<usize>,
    },
    /// A matrix product failed.
    #[error(transparent)]
    Numerics(#[from] llm_numerics::NumericsError),
    /// The rotation of positions failed.
    #[error(transparent)]
    Posenc(#[from] llm_posenc::PosencError),
    /// Attention failed.
    #[error(transparent)]
    Attention(#[from] llm_attention::AttentionError),
    /// The feed-forward part or a norm failed.
    #[error(transparent)]
    Ffn(#[from] llm_ffn::FfnError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] llm_kvcache::KvCacheError),
}
