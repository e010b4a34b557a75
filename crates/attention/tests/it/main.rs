//! Tests of the crate, one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod convert;
mod errors;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
mod gradients;
mod masks;
mod merge;
mod properties;
mod score_mods;
mod sinks;
mod varlen;
mod vectors;
