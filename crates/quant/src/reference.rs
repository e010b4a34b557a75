//! The textbook form of each method: what the fast path is compared with.
//!
//! One file a method, `reference/<method>.rs`. Nothing here is shared with the fast path but the types of the settings:
//! otherwise a shared mistake would go unseen. Quotients and midpoints are rounded to `f32`, because codes are decided by them;
//! all else is `f64`.

pub mod blocks;
pub mod double;
pub mod integer;
pub mod matmul;
pub mod normal;
pub mod vector_wise;
