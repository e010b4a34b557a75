//! Tests of `llm-numerics`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod laws;
mod sixteen;
#[cfg(feature = "testing")]
mod testing;
