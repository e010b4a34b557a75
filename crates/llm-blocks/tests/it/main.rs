//! Tests across the crates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod by_hand;
mod by_reference;
mod configs;
mod modules;
mod reachable;
