//! What the functions on the device can refuse.

use llm_gpu::GpuError;

use crate::QuantError;

/// What functions on the device refuse: the rules of the CPU, those of the device, and those about tensors.
///
/// It is a type of its own so that [`QuantError`] is the same with and without the feature `gpu`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuQuantError {
    /// What the CPU refuses too.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The device refuses, or cannot do it.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A tensor has another number of axes.
    #[error("{name} must have {expected} axes, got the shape {got:?}")]
    Rank {
        /// Name of the tensor.
        name: &'static str,
        /// Its axes.
        expected: usize,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// More weights than kernels can count.
    #[error("weights must have at most {limit} elements on a device, got {got}")]
    Elements {
        /// [`MAX_ELEMENTS`](super::MAX_ELEMENTS).
        limit: usize,
        /// What came.
        got: usize,
    },
}
