//! One test binary: what is claimed about the samplers, by kind of claim.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chi_square;
mod errors;
mod golden;
mod loop_properties;
mod properties;
mod search;
mod vectors;
