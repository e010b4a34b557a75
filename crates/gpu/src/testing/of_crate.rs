//! The tests that every crate with kernels has.

/// The tests that every crate with kernels has, none of which needs a driver: text, header, bindings and parameters of each kernel, the files
/// that headers name, pipelines under the limits of three kinds of device, and that no shader file is left out.
///
/// # Example
///
/// ```
/// use llm_gpu::{Kernel, params::Layout};
///
/// const KERNELS: &[&Kernel] = &[]; // of the crate
/// const LAYOUTS: &[Layout] = &[];
/// llm_gpu::shader_tests!(KERNELS, LAYOUTS);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! shader_tests {
    ($kernels:expr, $layouts:expr) => {
        #[test]
        fn every_kernel_is_portable_and_bound_as_declared() {
            let faults = $crate::testing::check_kernels($kernels, $layouts);
            assert!(faults.is_empty(), "{faults:#?}");
        }

        #[test]
        fn every_header_names_the_code_that_it_is_compared_with() {
            let faults = $crate::testing::check_twins($kernels, env!("CARGO_MANIFEST_DIR"));
            assert!(faults.is_empty(), "{faults:#?}");
        }

        #[test]
        fn every_kernel_builds_on_every_profile() {
            let faults = $crate::testing::build_on_noop($kernels);
            assert!(faults.is_empty(), "{faults:#?}");
        }

        /// A file that nobody lists would be checked by nobody.
        #[test]
        fn every_shader_file_is_a_kernel_or_a_snippet() {
            let root = env!("CARGO_MANIFEST_DIR");
            let files = $crate::testing::unlisted_files($kernels, root).unwrap();
            assert!(files.is_empty(), "{files:#?}");
        }
    };
}
