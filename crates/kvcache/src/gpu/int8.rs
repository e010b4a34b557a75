//! The kernels of pages of 8-bit integers.

use llm_gpu::{Access, GpuTensor, Kernel, Needs, Snippet, snippet};

use super::GpuPages;
use super::element::{GpuPageElement, sealed};
use super::pages::{BYTE_MASK, PLACES, PlacesParams, WRITE};
use crate::affine;

const INT8: Snippet = Snippet {
    name: "int8",
    source: include_str!("int8.wgsl"),
};

const R: Access = Access::Read;
const W: Access = Access::Write;

pub(super) static CHECK_NUMBERS: Kernel = Kernel {
    name: "check_numbers",
    source: include_str!("check_numbers.wgsl"),
    snippets: &[snippet::LINEAR, PLACES],
    bindings: &[R, R, W],
    params_size: size_of::<PlacesParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static WRITE_INT8: Kernel = Kernel {
    name: "write_int8",
    source: include_str!("write_int8.wgsl"),
    snippets: &[
        snippet::LINEAR,
        BYTE_MASK,
        PLACES,
        WRITE,
        snippet::SINGLE,
        INT8,
    ],
    bindings: &[R, R, R, W, W],
    params_size: size_of::<PlacesParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(2416),
};

pub(super) static GATHER_INT8: Kernel = Kernel {
    name: "gather_int8",
    source: include_str!("gather_int8.wgsl"),
    snippets: &[snippet::LINEAR, PLACES, snippet::SINGLE],
    bindings: &[R, R, W, R],
    params_size: size_of::<PlacesParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

impl GpuPageElement for i8 {}

/// Four in a word, the first in the lowest byte.
impl sealed::Element for i8 {
    type Word = u32;
    type Scale = f32;

    const WRITE: &'static Kernel = &WRITE_INT8;
    const GATHER: &'static Kernel = &GATHER_INT8;
    const LIMIT: Option<f32> = Some(affine::MOST_F32);
    const HAS_SCALES: bool = true;
    const IS_BY_ROWS: bool = true;

    fn row_bytes(features: usize) -> Option<usize> {
        Some(features)
    }

    fn tensor_shape(_: [usize; 4], bytes: usize) -> Vec<usize> {
        vec![bytes.div_ceil(4)]
    }
}

impl GpuPages<i8> {
    /// The scales of all pages, `[2, n_pages, kv_heads, page_size]`: those of the keys, then those of the values.
    #[must_use]
    pub const fn scales(&self) -> &GpuTensor<f32> {
        &self.scales
    }
}
