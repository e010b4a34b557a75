//! The tests of `llm-gpu`, by the kind of claim.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "one program")]

mod errors;
mod grid;
mod kernels;
mod loss;
mod recorder;
mod shaders;
mod snippets;
mod timing;
mod transfer;
