//! The textbook forms, in `f64`: what the fast paths are compared with.
//!
//! Nothing here shares code with the fast path but the config types. Shapes are not
//! checked beyond what indexing needs: `None` where they do not fit.

pub mod rms_norm;
pub mod silu;
pub mod swiglu;
