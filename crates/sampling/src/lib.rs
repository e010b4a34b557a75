#![doc = include_str!("../README.md")]

pub mod categorical;
mod error;
pub mod generate;
pub mod greedy;
pub mod reference;
mod rows;
pub mod sampler;
pub mod stream;
pub mod temperature;
pub mod top_k;
pub mod top_p;

pub use categorical::Draw;
pub use error::SamplingError;
pub use ndarray; // the version our signatures speak
pub use sampler::{Dialect, SamplingConfig};
