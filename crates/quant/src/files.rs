//! Files in the layout of bitsandbytes 0.50: safetensors with packed weights, their scales and a state in JSON.
//!
//! What comes from a file is not trusted: sizes are compared with the length of the file before memory is asked for, and
//! each rule that a file can break is a [`FileError`]. What is written goes to a temporary file first, which is renamed when it is whole.

mod checkpoint;
mod config;
mod error;
mod file;
pub mod four_bit_state;
mod header;
pub mod int8_state;
mod json;
mod python;
pub mod quantize;
mod source;
mod stage;
mod types;
mod writer;

pub use checkpoint::Checkpoint;
pub use config::{LoadIn, QuantizationConfig};
pub use error::FileError;
pub use file::TensorFile;
pub use safetensors::Dtype;
pub use safetensors::tensor::TensorInfo;
pub use source::{Tensor, TensorSource};
pub use types::{PackedType, WeightType};
pub use writer::{TensorWriter, torch_metadata, write_tensors, write_whole};
