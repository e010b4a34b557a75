//! A kernel that is wrong on purpose, to see that the browser's compiler finds what others let through.

use llm_gpu::{Access, Kernel, Needs};

/// A barrier that only some invocations of a workgroup reach.
///
/// wgpu's own compiler accepts it (gfx-rs/wgpu#4369), WGSL forbids it: section "Uniformity" of the W3C's specification.
pub(crate) static BARRIER_IN_BRANCH: Kernel = Kernel {
    name: "barrier_in_branch",
    source: include_str!("barrier_in_branch.wgsl"),
    snippets: &[],
    bindings: &[Access::Write],
    params_size: 0,
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(256),
};
