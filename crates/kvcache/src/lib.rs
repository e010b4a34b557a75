#![doc = include_str!("../README.md")]

pub mod calculator;
pub mod contiguous;
mod error;
pub mod reference;

pub use contiguous::ContiguousCache;
pub use error::KvCacheError;
pub use ndarray; // the version our signatures speak
