//! The tests of `llm-quant` as one program; a file per kind of claim.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
mod properties;
mod vectors;
