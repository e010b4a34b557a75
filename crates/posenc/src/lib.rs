#![cfg_attr(any(feature = "gpu", not(doctest)), doc = include_str!("../README.md"))]
// Its second example needs the feature, so that without it none of them is run.
#![cfg_attr(
    all(doctest, not(feature = "gpu")),
    doc = "Positional encodings of language models."
)]

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
