//! Textbook forms in `f64` that the fast path is tested against: whole sorts, plain sums, one row
//! at a time, and not a line in common with it.
//!
//! Inputs have been checked by the caller: no NaN, no `+inf`, one token at least above `-inf`,
//! parameters in range.

pub mod categorical;
pub mod greedy;
pub mod min_p;
pub mod sampler;
pub mod search;
pub mod temperature;
pub mod top_k;
pub mod top_p;
