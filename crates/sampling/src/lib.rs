#![doc = include_str!("../README.md")]

pub mod bad_words;
mod candidates;
pub mod categorical;
pub mod epsilon_cutoff;
mod error;
pub mod eta_cutoff;
pub mod exponential_decay_length;
pub mod forced_tokens;
pub mod generate;
pub mod greedy;
pub mod guidance;
pub mod log_normalization;
pub mod min_length;
pub mod min_p;
pub mod no_repeat_ngram;
pub mod prefix_allowed;
pub mod processor;
pub mod reference;
pub mod remove_invalid;
pub mod repetition_penalty;
mod rows;
pub mod sampler;
pub mod sequence_bias;
mod source;
pub mod stream;
pub mod suppress;
pub mod synthid;
pub mod temperature;
pub mod top_h;
pub mod top_k;
pub mod top_p;
pub mod typical;
pub mod watermark;

pub use candidates::{Candidates, Scratch};
pub use categorical::Draw;
pub use error::SamplingError;
pub use ndarray; // the version our signatures speak
pub use processor::{Context, Processor, RowRandom};
pub use sampler::{Dialect, SamplingConfig};
pub use source::Sources;
