#![doc = include_str!("../README.md")]

pub mod af4;
pub mod calculator;
pub mod code_book;
pub mod density;
pub mod double;
pub mod dynamic_map;
pub mod eight_bit;
mod error;
#[cfg(feature = "files")]
pub mod files;
pub mod four_bit;
pub mod fp4;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod int8_matmul;
pub mod integer;
pub mod matmul;
pub mod nf4;
pub mod normal;
pub mod reference;
pub mod report;
pub mod vector_wise;

pub use error::QuantError;
pub use four_bit::{FourBit, FourBitCode, FourBitConfig};
pub use ndarray; // the version that our signatures speak
