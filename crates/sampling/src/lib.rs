#![doc = include_str!("../README.md")]

pub mod adaptive_p;
pub mod bad_words;
mod candidates;
pub mod categorical;
pub mod chain;
mod choose;
pub mod dry;
pub mod dynamic_temperature;
pub mod epsilon_cutoff;
mod error;
pub mod eta_cutoff;
pub mod exponential_decay_length;
pub mod exponential_race;
pub mod forced_tokens;
pub mod generate;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(feature = "grammar")]
pub mod grammar;
pub mod greedy;
pub mod guidance;
pub mod gumbel_max;
pub mod huggingface;
pub mod log_normalization;
pub mod logit_bias;
pub mod min_length;
pub mod min_p;
pub mod mirostat;
pub mod no_repeat_ngram;
pub mod output;
pub mod prefix_allowed;
pub mod presence_frequency;
pub mod processor;
pub mod reference;
pub mod remove_invalid;
pub mod repetition_penalty;
mod rows;
pub mod sampler;
pub mod search;
mod select;
pub mod sequence_bias;
mod source;
pub mod stream;
pub mod suppress;
pub mod synthid;
pub mod tail_free;
pub mod temperature;
pub mod top_a;
pub mod top_h;
pub mod top_k;
pub mod top_n_sigma;
pub mod top_p;
pub mod typical;
pub mod watermark;
mod weights;
pub mod xtc;

pub use candidates::{Candidates, Scratch};
pub use categorical::Draw;
pub use chain::Chain;
pub use choose::Choose;
pub use error::SamplingError;
pub use ndarray; // the version our signatures speak
pub use processor::{Context, Processor, RowRandom};
pub use sampler::{Dialect, SamplingConfig};
pub use source::Sources;
