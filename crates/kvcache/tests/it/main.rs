//! One test binary: what is claimed about the caches, by kind of claim.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attention;
mod errors;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
mod properties;
mod quantized_peers;
mod recorded;
mod vectors;
