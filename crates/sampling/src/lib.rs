#![doc = include_str!("../README.md")]

pub mod adaptive_p;
mod candidates;
pub mod categorical;
pub mod dry;
pub mod dynamic_temperature;
mod error;
pub mod exponential_race;
pub mod generate;
pub mod greedy;
pub mod gumbel_max;
pub mod logit_bias;
pub mod min_p;
pub mod mirostat;
pub mod presence_frequency;
pub mod processor;
pub mod reference;
pub mod repetition_penalty;
mod rows;
pub mod sampler;
pub mod stream;
pub mod tail_free;
pub mod temperature;
pub mod top_a;
pub mod top_k;
pub mod top_n_sigma;
pub mod top_p;
pub mod xtc;

pub use candidates::{Candidates, Scratch};
pub use categorical::Draw;
pub use error::SamplingError;
pub use ndarray; // the version our signatures speak
pub use processor::{Context, Processor, RowRandom};
pub use sampler::{Dialect, SamplingConfig};
