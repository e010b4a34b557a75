//! The exercises of the book: each file has the task, the tests and a solution. The listings are the examples of this package.

pub mod cat;
pub mod exercises;
pub mod left;
