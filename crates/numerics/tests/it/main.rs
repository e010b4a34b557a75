//! Tests of `llm-numerics`.

mod laws;
#[cfg(feature = "testing")]
mod testing;
