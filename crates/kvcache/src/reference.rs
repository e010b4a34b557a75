//! Textbook models in `f64` that the caches are tested against: obvious, slow, and
//! without a line in common with them.

pub mod contiguous;
pub mod eviction;
pub mod quantized;
pub mod sequences;
pub mod smooth;
pub mod window;
