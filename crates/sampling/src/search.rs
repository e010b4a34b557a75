//! Ways to a whole sequence that need more than one choice after the other.
//!
//! None of them knows a model: logits and hidden states come in as arrays, and what goes out says which tokens to feed next and what of
//! the caches to keep.

pub mod best_of;
pub mod contrastive;
pub mod dola;
pub mod prompt_lookup;
pub mod speculative;
mod weights;
