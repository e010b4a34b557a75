//! Known answers, by hand.

mod calculator;
mod contiguous;
mod eviction;
