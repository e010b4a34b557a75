//! The tests of `llm-gpu`, by the kind of claim.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "one program")]

mod kernels;
mod recorder;
