//! One test binary: what is claimed about the samplers, by kind of claim.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod chi_square;
mod errors;
mod golden;
mod loop_properties;
mod properties;
mod vectors;
