//! Tests of `llm-numerics`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod laws;
#[cfg(feature = "testing")]
mod testing;
