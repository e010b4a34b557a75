//! Tests of `llm-tiny-model`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data;
mod eval;
mod model;
mod tokenizer;
mod training;
