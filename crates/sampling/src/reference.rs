//! Textbook forms in `f64` that the fast path is tested against: whole sorts, plain sums, one row
//! at a time, and not a line in common with it.
//!
//! Inputs have been checked by the caller: no NaN, no `+inf`, one token at least above `-inf`,
//! parameters in range.

pub mod adaptive_p;
pub mod bad_words;
pub mod categorical;
pub mod contrastive;
pub mod dola;
pub mod dry;
pub mod dynamic_temperature;
pub mod epsilon_cutoff;
pub mod eta_cutoff;
pub mod exponential_decay_length;
pub mod exponential_race;
pub mod grammar;
pub mod greedy;
pub mod guidance;
pub mod gumbel_max;
pub mod logit_bias;
pub mod masks;
pub mod min_p;
pub mod mirostat;
pub mod no_repeat_ngram;
pub mod prefix_allowed;
pub mod presence_frequency;
pub mod prompt_lookup;
pub mod remove_invalid;
pub mod repetition_penalty;
pub mod sampler;
pub mod search;
pub mod sequence_bias;
pub mod speculative;
pub mod stop_strings;
pub mod synthid;
pub mod tail_free;
pub mod temperature;
pub mod top_a;
pub mod top_h;
pub mod top_k;
pub mod top_n_sigma;
pub mod top_p;
pub mod typical;
pub mod watermark;
pub mod xtc;
