//! The laws of each method over its whole documented domain; the name of a test is a sentence.

mod code_book;
mod eight_bit;
mod four_bit;
mod integer;
mod low_rank;
mod matmul;
pub(crate) mod strategies;
mod vector_wise;
