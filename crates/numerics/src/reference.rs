//! The textbook forms, in `f64`: what the fast paths are compared with.
//!
//! Nothing here shares code with the fast path.

pub mod gemm;
pub mod softmax;
