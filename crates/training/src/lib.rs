#![doc = include_str!("../README.md")]

pub mod adamw;
pub mod causal_lm;
pub mod clip;
pub mod cross_entropy;
mod error;
pub mod reference;
pub mod schedule;

pub use error::TrainingError;
pub use ndarray; // the version our signatures speak
