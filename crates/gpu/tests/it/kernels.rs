//! Small kernels for the tests of this crate.

use llm_gpu::{Access, Kernel, Needs, snippet};

llm_gpu::params! {
    /// Parameters of `scale.wgsl`.
    pub struct ScaleParams {
        /// Number of elements.
        n: u32,
        /// What each is multiplied by.
        factor: f32,
    }
}

/// Each element multiplied by a factor, in place.
pub static SCALE: Kernel = Kernel {
    name: "scale",
    source: include_str!("kernels/scale.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Write],
    params_size: size_of::<ScaleParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};
