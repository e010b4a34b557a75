//! The tests of `llm-quant` as one program; a file per kind of claim.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
#[cfg(feature = "files")]
mod files;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
mod properties;
mod vectors;
