//! Tests of the crate, one binary.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod errors;
mod golden;
mod properties;
mod vectors;
