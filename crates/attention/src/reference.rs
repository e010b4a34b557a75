//! The textbook forms, in `f64`: what the fast paths are compared with.
//!
//! Nothing here shares code with the fast path but the config and error types.

pub mod attention;
pub mod convert;
pub mod differential;
pub mod merge;
pub mod mla;
pub mod paged;
pub mod prefix;
pub mod score_mods;
pub mod sinks;
pub mod varlen;
