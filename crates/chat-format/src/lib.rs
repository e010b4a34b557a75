#![doc = include_str!("../README.md")]

pub mod chatglm3;
mod encode;
mod error;
mod message;
pub mod reference;
mod segment;
mod tokenizer;

pub use encode::{Encoded, IGNORE_INDEX, LossMask, encode};
pub use error::{ChatFormatError, EncodeError};
pub use message::{Message, Role};
pub use segment::{Ending, Part, Piece, Rendered, Segment};
pub use tokenizer::Tokenizer;
