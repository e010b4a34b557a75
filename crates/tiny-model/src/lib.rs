#![doc = include_str!("../README.md")]

pub mod data;
mod error;
pub mod eval;
pub mod exam;
mod model;
pub mod recipe;
mod state;
pub mod tokenizer;
pub mod train;

pub use error::TinyModelError;
pub use model::{DEFAULT_NEW_TOKENS, GenerateOptions, Reply, TinyModel};
pub use tokenizer::Tokenizer;
