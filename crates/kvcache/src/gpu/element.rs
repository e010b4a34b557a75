//! The number types of pages on the device.

use std::fmt::Debug;

use llm_gpu::half::{bf16, f16};

use super::float;

/// What pages on the device are made of: `f32`, `f16`, `bf16`, `i8` with a scale for each token and head, or [`Int4`](super::Int4). Sealed.
///
/// Keys and values come as `f32`. To `f16` and `bf16` they are rounded to nearest, ties to even; to `i8` as in
/// [`Int8Pages`](crate::paged::Int8Pages), to `Int4` as in [`Int4Pages`](crate::paged::Int4Pages).
pub trait GpuPageElement: sealed::Element + Copy + Debug + 'static {}

impl GpuPageElement for f32 {}
impl GpuPageElement for f16 {}
impl GpuPageElement for bf16 {}

pub(super) mod sealed {
    use llm_gpu::{GpuElement, Kernel};

    /// How tokens lie, and what writes and reads them.
    pub trait Element {
        /// Elements of the tensors.
        type Word: GpuElement;
        /// Elements of the tensor of scales.
        type Scale: GpuElement;

        /// Writes tokens.
        const WRITE: &'static Kernel;
        /// Reads tokens.
        const GATHER: &'static Kernel;
        /// The largest absolute value that can be written, if not all can.
        const LIMIT: Option<f32>;
        /// Whether there is a scale for each token and head.
        const HAS_SCALES: bool;
        /// Whether a workgroup writes a token and head, and not an invocation each word of it.
        const IS_BY_ROWS: bool;

        /// Bytes of a token and head.
        fn row_bytes(features: usize) -> Option<usize>;

        /// The shape of the tensor for pages `[n_pages, n_kv_heads, page_size, features]` of so many bytes.
        fn tensor_shape(pages: [usize; 4], bytes: usize) -> Vec<usize>;
    }
}

macro_rules! float {
    ($type:ty, $write:expr, $gather:expr) => {
        impl sealed::Element for $type {
            type Word = $type;
            type Scale = f32;

            const WRITE: &'static llm_gpu::Kernel = $write;
            const GATHER: &'static llm_gpu::Kernel = $gather;
            const LIMIT: Option<f32> = None;
            const HAS_SCALES: bool = false;
            const IS_BY_ROWS: bool = false;

            fn row_bytes(features: usize) -> Option<usize> {
                features.checked_mul(size_of::<$type>())
            }

            fn tensor_shape(pages: [usize; 4], _: usize) -> Vec<usize> {
                pages.to_vec()
            }
        }
    };
}

float!(f32, &float::WRITE_F32, &float::GATHER_F32);
float!(f16, &float::WRITE_F16, &float::GATHER_F16);
float!(bf16, &float::WRITE_BF16, &float::GATHER_BF16);
