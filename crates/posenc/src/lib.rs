#![doc = include_str!("../README.md")]

pub mod alibi;
mod diagonals;
mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod kerple;
pub mod learned;
mod memory;
pub mod positions;
pub mod reference;
pub mod rope;
pub mod sinusoidal;
pub mod t5;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::PosencError;
pub use ndarray; // the version our signatures speak
