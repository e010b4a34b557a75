//! The kernels of pages of floating-point numbers.

use llm_gpu::{Access, Kernel, Needs, Snippet, snippet};

use super::pages::{PLACES, PlacesParams, WRITE};

const WRITE_HALF: Snippet = Snippet {
    name: "write_half",
    source: include_str!("write_half.wgsl"),
};

/// f16 as f32.
pub(super) const WIDENED: Snippet = Snippet {
    name: "widened",
    source: include_str!("widened.wgsl"),
};

const R: Access = Access::Read;
const W: Access = Access::Write;

const fn kernel(
    name: &'static str,
    source: &'static str,
    snippets: &'static [Snippet],
    bindings: &'static [Access],
) -> Kernel {
    Kernel {
        name,
        source,
        snippets,
        bindings,
        params_size: size_of::<PlacesParams>(),
        constants: &["WORKGROUP_SIZE"],
        needs: Needs::CORE,
    }
}

pub(super) static WRITE_F32: Kernel = kernel(
    "write_f32",
    include_str!("write_f32.wgsl"),
    &[snippet::LINEAR, PLACES, WRITE],
    &[R, R, R, W],
);

pub(super) static WRITE_F16: Kernel = kernel(
    "write_f16",
    include_str!("write_f16.wgsl"),
    &[snippet::LINEAR, snippet::F16, PLACES, WRITE, WRITE_HALF],
    &[R, R, R, W],
);

pub(super) static WRITE_BF16: Kernel = kernel(
    "write_bf16",
    include_str!("write_bf16.wgsl"),
    &[snippet::LINEAR, snippet::BF16, PLACES, WRITE, WRITE_HALF],
    &[R, R, R, W],
);

pub(super) static GATHER_F32: Kernel = kernel(
    "gather_f32",
    include_str!("gather_f32.wgsl"),
    &[snippet::LINEAR, PLACES],
    &[R, R, W],
);

pub(super) static GATHER_F16: Kernel = kernel(
    "gather_f16",
    include_str!("gather_f16.wgsl"),
    &[snippet::LINEAR, PLACES, WIDENED],
    &[R, R, W],
);

pub(super) static GATHER_BF16: Kernel = kernel(
    "gather_bf16",
    include_str!("gather_bf16.wgsl"),
    &[snippet::LINEAR, PLACES],
    &[R, R, W],
);
