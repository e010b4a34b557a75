#![doc = include_str!("../README.md")]

mod error;
pub mod reference;
pub mod rope;

pub use error::PosencError;
pub use ndarray; // the version our signatures speak
