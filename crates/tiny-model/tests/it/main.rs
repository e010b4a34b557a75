//! Tests of `llm-tiny-model`.

mod data;
mod eval;
mod model;
mod tokenizer;
mod training;
