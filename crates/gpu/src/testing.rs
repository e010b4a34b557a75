//! Tools for tests of kernels, here and in other crates: the device that they run on, and checks that need no driver.
//!
//! A crate with kernels tests them in a few lines, whatever machine it is built on:
//!
//! ```
//! use llm_gpu::testing::{build_on_noop, check_kernels, check_twins};
//! # mod gpu { use llm_gpu::{Kernel, params::Layout}; pub static KERNELS: [&Kernel; 0] = []; pub static LAYOUTS: [Layout; 0] = []; }
//!
//! assert_eq!(check_kernels(&gpu::KERNELS, &gpu::LAYOUTS), []); // text, header, bindings, parameters
//! assert_eq!(check_twins(&gpu::KERNELS, env!("CARGO_MANIFEST_DIR")), []); // the files that headers name
//! assert_eq!(build_on_noop(&gpu::KERNELS), []); // pipelines, under the limits of three kinds of device
//! ```

mod fault;
mod files;
mod header;
mod noop;
mod policy;
mod shaders;
mod twin;

pub use fault::{Fault, Rule};
pub use files::unlisted_files;
pub use noop::{Profile, build_on_noop, noop};
pub use policy::{Policy, gpu, gpu_with, options};
pub use shaders::check_kernels;
pub use twin::check_twins;
