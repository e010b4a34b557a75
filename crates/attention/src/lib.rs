#![doc = include_str!("../README.md")]

mod config;
pub mod convert;
pub mod differential;
mod error;
pub mod flash;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod io_count;
mod memory;
pub mod merge;
pub mod mla;
pub mod paged;
pub mod prefix;
pub mod reference;
pub mod score_mods;
pub mod sinks;
pub mod varlen;

pub use config::{AttentionConfig, CausalAlignment, Mask};
pub use error::AttentionError;
pub use flash::{Gradients, backward, backward_into, forward, forward_into, forward_with_lse};
pub use ndarray; // the version our signatures speak
pub use score_mods::{AlibiOrigin, Dropout, MaskPolarity, ScoreMods};
