//! The test tools themselves: each must accept what is right and reject what is wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod file;
mod gradient;
mod tolerance;
mod vectors;
mod vectors_hostile;
mod vectors_run;
