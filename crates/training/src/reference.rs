//! The textbook forms, in `f64`: what the fast paths are compared with.
//!
//! Nothing here shares code with the fast path but the config types.

pub mod adamw;
pub mod clip;
pub mod cross_entropy;
pub mod schedule;
