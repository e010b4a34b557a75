//! One test binary: what is claimed about the samplers, by kind of claim.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chi_square;
mod errors;
mod golden;
mod loop_properties;
mod processor_errors;
mod processor_golden;
mod processor_properties;
mod processor_reference;
mod properties;
mod synthid;
mod vectors;
mod watermark;
