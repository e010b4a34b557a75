//! Tests across the crates.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod by_hand;
mod by_reference;
mod configs;
mod reachable;
