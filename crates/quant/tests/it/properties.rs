//! The laws of each method over its whole documented domain; the name of a test is a sentence.

mod eight_bit;
mod four_bit;
mod matmul;
pub(crate) mod strategies;
mod vector_wise;
