//! Textbook forms in `f64` that the fast path is tested against: whole sorts, plain sums, one row
//! at a time, and not a line in common with it.
//!
//! Inputs have been checked by the caller: no NaN, no `+inf`, one token at least above `-inf`,
//! parameters in range.

pub mod bad_words;
pub mod categorical;
pub mod epsilon_cutoff;
pub mod eta_cutoff;
pub mod exponential_decay_length;
pub mod greedy;
pub mod guidance;
pub mod masks;
pub mod min_p;
pub mod no_repeat_ngram;
pub mod prefix_allowed;
pub mod remove_invalid;
pub mod repetition_penalty;
pub mod sampler;
pub mod sequence_bias;
pub mod synthid;
pub mod temperature;
pub mod top_h;
pub mod top_k;
pub mod top_p;
pub mod typical;
pub mod watermark;
