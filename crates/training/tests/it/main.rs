//! Integration tests, one module per kind of claim.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod golden;
mod gradients;
mod properties;
mod threads;
mod vectors;
