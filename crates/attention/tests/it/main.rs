//! Tests of the crate, one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod convert;
mod cross;
mod differential;
mod errors;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
mod gradients;
mod io_count;
mod masks;
mod merge;
mod mla;
mod paged;
mod prefix;
mod properties;
mod score_mods;
mod sinks;
mod split;
mod varlen;
mod vectors;
