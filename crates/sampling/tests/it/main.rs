//! One test binary: what is claimed about the samplers, by kind of claim.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocations;
mod chain;
mod chi_square;
mod choices;
mod contrast;
mod dialects;
mod edges;
mod errors;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "grammar")]
mod grammar;
mod llama_cpp;
mod loop_properties;
mod modes;
mod processor_errors;
mod processor_golden;
mod processor_properties;
mod processor_reference;
mod properties;
mod recorded;
mod search;
mod search_errors;
mod speculative;
mod stop_strings;
mod synthid;
mod vectors;
mod watermark;
