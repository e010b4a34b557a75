//! Tests of the crate, one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
mod gradients;
mod properties;
mod vectors;
