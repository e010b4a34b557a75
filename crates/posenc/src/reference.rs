//! The textbook forms: `f64`, slow on purpose, each equation with its source.
//!
//! They share no code with the fast paths but the types of the settings, so they can judge them.

pub mod alibi;
pub mod kerple;
pub mod learned;
pub mod positions;
pub mod rope;
pub mod sinusoidal;
pub mod t5;
