//! Tools for tests of kernels, here and in other crates: the device that they run on, and checks that need no driver.
//!
//! [`shader_tests!`](crate::shader_tests) is what a crate with kernels needs of the latter.

mod fault;
mod files;
mod header;
mod noop;
mod of_crate;
mod policy;
mod shaders;
mod twin;

pub use fault::{Fault, Rule};
pub use files::unlisted_files;
pub use noop::{Profile, build_on_noop, noop};
pub use policy::{Policy, gpu, gpu_with, options};
pub use shaders::check_kernels;
pub use twin::check_twins;
