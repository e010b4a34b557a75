//! Ways to a whole sequence that need more than one choice after the other.
//!
//! None of them knows a model: logits and hidden states come in as arrays, and what goes out says which tokens to feed next and what of
//! the caches to keep.

pub mod beam;
mod beam_rows;
pub mod beam_sample;
mod best;
pub mod best_of;
pub mod constrained;
mod constraint_progress;
pub mod contrastive;
pub mod diverse;
pub mod dola;
pub mod hypothesis;
mod log_probs;
pub mod prompt_lookup;
pub mod speculative;
pub mod transition;

pub use hypothesis::Hypothesis;
