//! What can be wrong with a vector file, or with the op that ran it.

use crate::testing::Mismatch;

/// Everything that a vector file or its run can fail with, one variant per rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// The file or folder cannot be read.
    #[error("file must be readable, got {0}")]
    Unreadable(String),
    /// The bytes are not a safetensors file.
    #[error("file must be valid safetensors, got {0}")]
    Format(String),
    /// A metadata entry is missing or malformed.
    #[error("metadata `{key}` must be {expected}, got {got}")]
    Metadata {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A tensor is neither an input nor an output.
    #[error("tensor names must start with `in.` or `out.`, got `{0}`")]
    TensorName(String),
    /// The op does not belong to the crate, or to the folder of the file.
    #[error("op must be `{expected}`, got `{got}`")]
    Place {
        /// What the crate and the folder ask for.
        expected: String,
        /// What the metadata says.
        got: String,
    },
    /// The crate has no such op.
    #[error("op must be known to the crate, got `{0}`")]
    UnknownOp(String),
    /// The op needs a parameter that the file lacks.
    #[error("parameter `{0}` must be given, got none")]
    MissingParam(String),
    /// A parameter has a type or value that the op does not know.
    #[error("parameter `{name}` must be {expected}, got {got}")]
    Param {
        /// The parameter.
        name: String,
        /// What it must be.
        expected: String,
        /// Its JSON.
        got: String,
    },
    /// Parameters that the op did not read.
    #[error("every parameter must be read by the op, got unknown {0:?}")]
    UnusedParams(Vec<String>),
    /// The op needs an input that the file lacks.
    #[error("input `in.{0}` must be given, got none")]
    MissingInput(String),
    /// Inputs that the op did not read.
    #[error("every input must be read by the op, got unread {0:?}")]
    UnreadInputs(Vec<String>),
    /// The op made an output that the file does not expect.
    #[error("output `out.{0}` must be in the file, got none")]
    MissingOutput(String),
    /// Expected outputs that the op did not compare.
    #[error("every expected output must be compared, got uncompared {0:?}")]
    UncomparedOutputs(Vec<String>),
    /// A tensor has another element type.
    #[error("tensor `{name}` must have type {expected}, got {got}")]
    ElementType {
        /// The tensor, with its prefix.
        name: String,
        /// Types that can be read as asked.
        expected: &'static str,
        /// Type in the file.
        got: String,
    },
    /// A tensor has another number of axes.
    #[error("tensor `{name}` must have {expected} axes, got shape {got:?}")]
    Rank {
        /// The tensor, with its prefix.
        name: String,
        /// Number of axes asked for.
        expected: usize,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// An element cannot be read as asked.
    #[error("tensor `{name}` must hold {expected} only, got {got}")]
    Value {
        /// The tensor, with its prefix.
        name: String,
        /// What the elements must be.
        expected: &'static str,
        /// The first other element.
        got: String,
    },
    /// The op's result is not the expected one.
    #[error("output `out.{name}`: {mismatch}")]
    Mismatch {
        /// The output.
        name: String,
        /// Where and how much.
        mismatch: Box<Mismatch>,
    },
    /// The op has no form on this tier; counted as skipped.
    #[error("skipped: {0}")]
    TierUnsupported(String),
    /// No tier of the run has a form of the op, so that the file was not checked at all.
    #[error("op must run on at least one tier, got skipped on all")]
    NoTier,
    /// The op refused its arguments.
    #[error("op must accept the case, got error: {0}")]
    Op(String),
    /// The op panicked.
    #[error("op must not panic, got: {0}")]
    Panicked(String),
    /// The folder holds no vector file.
    #[error("folder must hold at least one `<op>/<case>.safetensors`, got none")]
    NoFiles,
}

impl VectorError {
    /// Wraps the error of an op: `rope::apply(…).map_err(VectorError::op)?`.
    pub fn op(error: impl std::fmt::Display) -> Self {
        Self::Op(error.to_string())
    }
}
