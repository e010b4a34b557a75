//! Runs the program as its users do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chat;
mod devices;
mod errors;
mod eval;
mod generate;
mod models;
mod plot;
mod program;
mod quantize;
mod streams;
mod tour;

/// The article's question.
const QUESTION: &str = "现有鸡兔22只,共有48只脚,请问鸡比兔多了几只?";
