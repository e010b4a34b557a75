#![doc = include_str!("../README.md")]

mod affine;
pub mod calculator;
pub mod contiguous;
mod element;
mod error;
pub mod eviction;
pub mod file;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod kivi;
mod memory;
pub mod paged;
pub mod reference;
pub mod ring;
pub mod sinks;
pub mod smooth;
mod token;

pub use contiguous::ContiguousCache;
pub use element::Element;
pub use error::{KvCacheError, Largest};
pub use kivi::KiviCache;
pub use ndarray; // the version our signatures speak
pub use paged::PagedCache;
pub use ring::RingCache;
pub use sinks::SinkCache;
