//! Textbook forms in `f64` that the fast path is tested against: whole sorts, plain sums, one row
//! at a time, and not a line in common with it.
//!
//! Inputs have been checked by the caller: no NaN, no `+inf`, one token at least above `-inf`,
//! parameters in range.

pub mod adaptive_p;
pub mod categorical;
pub mod dry;
pub mod dynamic_temperature;
pub mod exponential_race;
pub mod greedy;
pub mod gumbel_max;
pub mod logit_bias;
pub mod min_p;
pub mod mirostat;
pub mod presence_frequency;
pub mod sampler;
pub mod tail_free;
pub mod temperature;
pub mod top_a;
pub mod top_k;
pub mod top_n_sigma;
pub mod top_p;
pub mod xtc;
