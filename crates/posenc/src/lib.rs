#![doc = include_str!("../README.md")]

pub mod alibi;
mod diagonals;
mod error;
pub mod kerple;
pub mod learned;
pub mod positions;
pub mod reference;
pub mod rope;
pub mod sinusoidal;
pub mod t5;

pub use error::PosencError;
pub use ndarray; // the version our signatures speak
