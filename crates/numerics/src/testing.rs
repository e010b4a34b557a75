//! Tools for tests: comparison with a tolerance, gradient check, vector files.
//!
//! Behind the feature `testing`, meant for the `[dev-dependencies]` of a crate. Everything here is made to reject: a NaN,
//! an infinity, a wrong shape, a value that nobody compared or a parameter that nobody read is a failure.
//!
//! | Item | Use |
//! |------|-----|
//! | [`Tolerance`], [`assert_close`], [`compare`] | arrays of any dimension against expected values |
//! | [`gradient`] | an analytic gradient against finite differences |
//! | [`vectors`] | every vector file of a crate, on every tier |

pub mod gradient;
mod tolerance;
pub mod vectors;

pub use tolerance::{Comparison, Difference, Mismatch, Tolerance, assert_close, compare};
