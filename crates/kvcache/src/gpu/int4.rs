//! The kernels of pages of 4-bit integers.

use llm_gpu::{Access, GpuTensor, Kernel, Needs, Snippet, snippet};

use super::GpuPages;
use super::element::{GpuPageElement, sealed};
use super::float::WIDENED;
use super::pages::{BYTE_MASK, PLACES, PlacesParams, WRITE};
use crate::affine;

const INT4: Snippet = Snippet {
    name: "int4",
    source: include_str!("int4.wgsl"),
};

const R: Access = Access::Read;
const W: Access = Access::Write;

pub(super) static WRITE_INT4: Kernel = Kernel {
    name: "write_int4",
    source: include_str!("write_int4.wgsl"),
    snippets: &[
        snippet::LINEAR,
        snippet::F16,
        BYTE_MASK,
        PLACES,
        WRITE,
        snippet::SINGLE,
        WIDENED,
        INT4,
    ],
    bindings: &[R, R, R, W, W],
    params_size: size_of::<PlacesParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(32),
};

pub(super) static GATHER_INT4: Kernel = Kernel {
    name: "gather_int4",
    source: include_str!("gather_int4.wgsl"),
    snippets: &[
        snippet::LINEAR,
        snippet::F16,
        PLACES,
        snippet::SINGLE,
        WIDENED,
        INT4,
    ],
    bindings: &[R, R, W, R],
    params_size: size_of::<PlacesParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Pages of 4-bit integers with a step and a least value for each token and head, as [`Int4Pages`](crate::paged::Int4Pages) has them.
/// Attention does not read them where they lie: gather them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int4;

impl GpuPageElement for Int4 {}

/// Eight in a word, the first in the lowest bits; each token and head begins with a byte.
impl sealed::Element for Int4 {
    type Word = u32;
    type Scale = u32;

    const WRITE: &'static Kernel = &WRITE_INT4;
    const GATHER: &'static Kernel = &GATHER_INT4;
    const LIMIT: Option<f32> = Some(affine::MOST);
    const HAS_SCALES: bool = true;
    const IS_BY_ROWS: bool = true;

    fn row_bytes(features: usize) -> Option<usize> {
        Some(features.div_ceil(2))
    }

    fn tensor_shape(_: [usize; 4], bytes: usize) -> Vec<usize> {
        vec![bytes.div_ceil(4)]
    }
}

impl GpuPages<Int4> {
    /// The steps and least values of all pages as `f16`, `[2, n_pages, kv_heads, page_size]`: those of the keys, then those of the values. The step is in
    /// the lower half of a word.
    #[must_use]
    pub const fn groups(&self) -> &GpuTensor<u32> {
        &self.scales
    }
}
