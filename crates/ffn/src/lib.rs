#![doc = include_str!("../README.md")]

mod error;
pub mod glu;
pub mod reference;
pub mod rms_norm;
mod rows;
pub mod silu;
pub mod swiglu;

pub use error::FfnError;
pub use ndarray; // the version our signatures speak
