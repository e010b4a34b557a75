//! The shaders without a driver: they parse, need nothing optional, and agree with the Rust side.

use llm_kvcache::gpu::llm_gpu::testing;
use llm_kvcache::gpu::{KERNELS, LAYOUTS};

#[test]
fn every_kernel_is_portable_and_bound_as_declared() {
    let faults = testing::check_kernels(KERNELS, LAYOUTS);
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_header_names_the_code_that_it_is_compared_with() {
    let faults = testing::check_twins(KERNELS, env!("CARGO_MANIFEST_DIR"));
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_kernel_builds_on_every_profile() {
    let faults = testing::build_on_noop(KERNELS);
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A file that nobody lists would be checked by nobody.
#[test]
fn every_shader_file_is_a_kernel_or_a_snippet() {
    let files = testing::unlisted_files(KERNELS, env!("CARGO_MANIFEST_DIR")).unwrap();
    assert!(files.is_empty(), "{files:#?}");
}
