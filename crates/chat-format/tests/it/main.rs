//! Tests of the chat formats.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod golden;
mod masks;
mod properties;
mod stand_ins;
