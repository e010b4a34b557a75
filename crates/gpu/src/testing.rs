//! Tools for tests of kernels, here and in other crates: the device that they run on, and checks that need no driver.

mod policy;

pub use policy::{Policy, gpu, options};
