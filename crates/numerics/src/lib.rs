#![doc = include_str!("../README.md")]

mod error;
mod float;
pub mod gemm;
pub mod memory;
pub mod philox;
pub mod reference;
pub mod simd;
pub mod softmax;
mod storage;
#[cfg(feature = "testing")]
pub mod testing;
pub mod threads;

pub use error::NumericsError;
pub use float::Float;
pub use half;
pub use ndarray; // the version our signatures speak
pub use storage::Storage;
