//! The shaders without a driver: they parse, need nothing optional, and agree with the Rust side.

use llm_posenc::gpu::llm_gpu::testing;
use llm_posenc::gpu::{KERNELS, LAYOUTS};

#[test]
fn every_kernel_is_portable_and_bound_as_declared() {
    testing::check_kernels(KERNELS, LAYOUTS);
}

#[test]
fn every_kernel_builds_on_every_profile() {
    testing::build_on_noop(KERNELS);
}
