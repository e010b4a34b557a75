#![doc = include_str!("../README.md")]

mod candidates;
pub mod categorical;
mod error;
pub mod generate;
pub mod greedy;
pub mod min_p;
pub mod processor;
pub mod reference;
pub mod repetition_penalty;
mod rows;
pub mod sampler;
pub mod search;
pub mod stream;
pub mod temperature;
pub mod top_k;
pub mod top_p;

pub use candidates::{Candidates, Scratch};
pub use categorical::Draw;
pub use error::SamplingError;
pub use ndarray; // the version our signatures speak
pub use processor::{Context, Processor, RowRandom};
pub use sampler::{Dialect, SamplingConfig};
