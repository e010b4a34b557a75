//! What the functions on the device can refuse.

use llm_gpu::GpuError;

use crate::SamplingError;

/// What functions on the device refuse: the rules of the CPU, those of the device, and those about tensors.
///
/// It is a type of its own so that [`SamplingError`] is the same with and without the feature `gpu`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuSamplingError {
    /// What the CPU refuses too.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
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
    /// A tensor does not fit another argument.
    #[error("{name} must have the shape {expected:?}, got {got:?}")]
    Shape {
        /// Name of the tensor.
        name: &'static str,
        /// What the other argument says.
        expected: Vec<usize>,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A vocabulary whose weights could overflow their sum.
    #[error("vocab must be at most {limit} on a device, got {got}")]
    Vocab {
        /// [`MAX_VOCAB`](super::MAX_VOCAB).
        limit: usize,
        /// What came.
        got: usize,
    },
    /// Not one of something for each row.
    #[error("{name} must have length {expected} (batch), got {got}")]
    PerRow {
        /// Name of the list.
        name: &'static str,
        /// Rows of the logits.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A window that is not in the history.
    #[error("window {row} must lie in 0..{length} (length of the history), got {start}..{end}")]
    Window {
        /// Row of the history.
        row: usize,
        /// Positions of the history.
        length: usize,
        /// Its first position.
        start: usize,
        /// One past its last position.
        end: usize,
    },
    /// More candidates than are compared, or none.
    #[error("n_candidates must be in 1..={limit}, got {got}")]
    BeamCandidates {
        /// [`MAX_CANDIDATES`](super::beam::MAX_CANDIDATES).
        limit: usize,
        /// What came.
        got: usize,
    },
    /// The sum of a beam that is none.
    #[error("the sum of a beam must be finite or -inf, got {got} for row {row}")]
    BeamSum {
        /// Row of the log-probabilities.
        row: usize,
        /// What came.
        got: f64,
    },
}
