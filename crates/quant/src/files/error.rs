//! Everything that a file can be refused for.

use std::io;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use crate::QuantError;

/// Everything that reading and writing files can refuse, one variant per rule.
///
/// A message says what must hold and what came, with names and numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused to read or write.
    #[error("{path}: {message}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What kind of failure.
        kind: io::ErrorKind,
        /// What the system said.
        message: String,
    },
    /// The file is shorter than its header says.
    #[error("the file must have at least {expected} bytes, got {got}")]
    Short {
        /// Bytes that length and header need.
        expected: u64,
        /// Bytes that there are.
        got: u64,
    },
    /// The header claims to be longer than the format allows.
    #[error("the header must have at most {limit} bytes, got {got}")]
    HeaderLen {
        /// What the format allows.
        limit: u64,
        /// What the file says.
        got: u64,
    },
    /// A configuration or an index is longer than any model needs.
    #[error("a configuration or an index must have at most {limit} bytes, got {got}")]
    JsonLen {
        /// What is looked at.
        limit: u64,
        /// What the file has.
        got: u64,
    },
    /// Something is no file: it may have no end.
    #[error("{path}: it must be a file")]
    NotFile {
        /// What was named.
        path: PathBuf,
    },
    /// The header is not the JSON that the format wants.
    #[error("the header must be JSON of tensors: {message}")]
    HeaderJson {
        /// What the parser said.
        message: String,
    },
    /// A name stands twice in a header.
    #[error("each name must stand once in a header, got {key} twice")]
    DuplicateKey {
        /// The name.
        key: String,
    },
    /// A tensor is in two files of a checkpoint.
    #[error("each tensor must be in one file, got {name} in {} and {}", files[0], files[1])]
    DuplicateTensor {
        /// Which tensor.
        name: String,
        /// The files.
        files: [String; 2],
    },
    /// Tensors overlap, leave holes, or end before they start.
    #[error("the bytes of {name} must start at {expected} and not end before, got {start}..{end}")]
    Region {
        /// Which tensor.
        name: String,
        /// Where the tensor before ends.
        expected: usize,
        /// Where it starts.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// A tensor has not the bytes that its type and shape need.
    #[error("{name} must have the bytes of {shape:?} of {dtype}, got {got}")]
    RegionLen {
        /// Which tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes that it has.
        got: usize,
    },
    /// After the header there are more or fewer bytes than the tensors have.
    #[error(
        "the tensors must fill the file: they have {expected} bytes, the file {got} behind its header"
    )]
    DataLen {
        /// Bytes of all tensors.
        expected: u64,
        /// Bytes behind the header.
        got: u64,
    },
    /// A tensor is not there.
    #[error("there must be a tensor {name}")]
    MissingTensor {
        /// Which one.
        name: String,
    },
    /// A tensor is there that nobody knows.
    #[error(
        "beside weights of four or eight bits there must be their own tensors alone, got {name}"
    )]
    UnexpectedTensor {
        /// Which one.
        name: String,
    },
    /// A tensor has another type.
    #[error("{name} must be {expected}, got {got}")]
    TensorType {
        /// Which tensor.
        name: String,
        /// The types that will do.
        expected: &'static str,
        /// What it has.
        got: Dtype,
    },
    /// A tensor has another shape.
    #[error("{name} must have shape {expected:?}, got {got:?}")]
    TensorShape {
        /// Which tensor.
        name: String,
        /// The shape that follows from the state.
        expected: Vec<usize>,
        /// What it has.
        got: Vec<usize>,
    },
    /// The state of a weight is not the JSON that bitsandbytes writes.
    #[error("{name} must be the JSON of a state: {message}")]
    StateJson {
        /// Which tensor.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// An entry of a state has a value that cannot be.
    #[error("{field} of {name} must be {expected}, got {got}")]
    StateField {
        /// Which tensor.
        name: String,
        /// Which entry.
        field: &'static str,
        /// What it can be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A map of codes has other values than its name promises.
    #[error("{name} must have {expected} for code {index}, got {got}")]
    CodeValue {
        /// Which tensor.
        name: String,
        /// The first code that differs.
        index: usize,
        /// The value of that code.
        expected: f32,
        /// What came.
        got: f32,
    },
    /// Packed bytes are no whole number of elements of the type that they should be stored as.
    #[error("{n_bytes} packed bytes must be a whole number of {storage}")]
    Storage {
        /// Packed bytes.
        n_bytes: usize,
        /// What they should be stored as.
        storage: Dtype,
    },
    /// Tensors are announced that no file can hold.
    #[error("tensors up to {name} must have sizes that a file can have, got {shape:?} of {dtype}")]
    AnnouncedSize {
        /// The first tensor that does not fit.
        name: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor was written that was not announced.
    #[error("a tensor must be announced before it is written, got {name}")]
    NotAnnounced {
        /// Which tensor.
        name: String,
    },
    /// A tensor was written again.
    #[error("each tensor must be written once, got {name} again")]
    WrittenTwice {
        /// Which tensor.
        name: String,
    },
    /// A tensor that was announced was not written.
    #[error("all tensors that were announced must be written, got none for {name}")]
    NotWritten {
        /// Which tensor.
        name: String,
    },
    /// A tensor was written with another length than announced.
    #[error("{name} must be written with {expected} bytes, got {got}")]
    WrittenLen {
        /// Which tensor.
        name: String,
        /// Bytes that were announced.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// `config.json` is not a JSON object, or a name stands in it twice.
    #[error("the configuration must be a JSON object: {message}")]
    ConfigJson {
        /// What is wrong with it.
        message: String,
    },
    /// An entry of the section on quantization has a value that cannot be.
    #[error("{field} of the configuration must be {expected}, got {got}")]
    ConfigField {
        /// Which entry.
        field: &'static str,
        /// What it can be.
        expected: &'static str,
        /// What it is, as JSON.
        got: String,
    },
    /// The index of a checkpoint is not what transformers writes.
    #[error("the index must be JSON with a weight_map: {message}")]
    IndexJson {
        /// What is wrong with it.
        message: String,
    },
    /// The index names a file that is not in its folder.
    #[error("a file of a checkpoint must be a .safetensors in the same folder, got {name}")]
    ShardName {
        /// What it names.
        name: String,
    },
    /// A checkpoint that should be quantized is quantized.
    #[error("weights that are quantized must not be quantized yet, got {name}")]
    AlreadyQuantized {
        /// What shows it.
        name: String,
    },
    /// A tensor was chosen that cannot be quantized.
    #[error(
        "a weight to quantize must be a matrix of F32, F16 or BF16 whose name ends in `.weight`, got {name} {shape:?} of {dtype}"
    )]
    NotWeight {
        /// Which tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The name of a weight in eight bits has another end.
    #[error("the name of a weight in eight bits must end in `weight`, got {name}")]
    WeightName {
        /// Which name.
        name: String,
    },
    /// Codes of eight bits have not two axes.
    #[error("codes of {name} must have shape [rows, columns], got {shape:?}")]
    CodesRank {
        /// Which weight.
        name: String,
        /// The shape of its codes.
        shape: Vec<usize>,
    },
    /// A weight would become a tensor of a name that another one has.
    #[error("{weight} becomes a tensor {name}: there must be none of that name yet")]
    NameTaken {
        /// The name that both have.
        name: String,
        /// The weight.
        weight: String,
    },
    /// A finite weight does not fit the type that it is rounded to on the way to eight bits.
    #[error(
        "weights of eight bits are rounded to F16 first, so they must round to at most 65504, got {value} at {index} of {name} (row-major)"
    )]
    HalfOverflow {
        /// Which tensor.
        name: String,
        /// Place of the first such weight in row-major order.
        index: usize,
        /// What stands there.
        value: f32,
    },
    /// An entry in a list of modules is no pattern.
    #[error("a module to skip must be a name or a pattern, got {entry:?}: {message}")]
    SkipPattern {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        message: String,
    },
    /// Something is there already where a checkpoint should be written.
    #[error("the target must not be there yet, or be an empty folder, got {path}")]
    Occupied {
        /// What is there.
        path: PathBuf,
    },
    /// Another run writes to the same target.
    #[error(
        "no other run may be writing to the same target, got one in {path}; if it is no more, remove that folder"
    )]
    Busy {
        /// Where it writes.
        path: PathBuf,
    },
    /// Blocks should come back as NaN, but nested scales cannot say it.
    #[error("blocks that come back as NaN need plain scales, got nested ones")]
    NestedPoison,
    /// The caller stopped it.
    #[error("stopped after {done} of {total} bytes")]
    Stopped {
        /// Bytes that were done.
        done: u64,
        /// Bytes of the whole checkpoint.
        total: u64,
    },
    /// A weight has rows without a number: each would get a scale of its own, out of a file that holds none of them.
    #[error("a weight of {rows} rows must have columns, got {name}")]
    NoColumns {
        /// Which tensor.
        name: String,
        /// How many rows it claims.
        rows: usize,
    },
    /// What is wrong, and in which file.
    #[error("{path}: {source}")]
    InFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<FileError>,
    },
    /// What a file holds cannot be made into weights.
    #[error("{name}: {source}")]
    Quant {
        /// Which tensor.
        name: String,
        /// Why.
        source: QuantError,
    },
}

impl FileError {
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            kind: error.kind(),
            message: error.to_string(),
        }
    }

    /// This error with the file in which it was found; errors of the system have it already.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        if matches!(self, Self::Io { .. } | Self::NotFile { .. }) {
            return self;
        }
        Self::InFile {
            path: path.to_owned(),
            source: Box::new(self),
        }
    }

    /// For `map_err`: what is wrong with the tensor `name`.
    pub(crate) fn quant(name: &str) -> impl FnOnce(QuantError) -> Self {
        |source| Self::Quant {
            name: name.to_owned(),
            source,
        }
    }
}
