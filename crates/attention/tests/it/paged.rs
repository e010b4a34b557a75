//! Attention to pages.

mod cases;
mod errors;
mod golden;
mod int8;
mod laws;
