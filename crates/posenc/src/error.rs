//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PosencError {
    /// `rotary_dim` is odd, zero, or beyond any sensible size.
    #[error("rotary_dim must be even and in 2..={max}, got {got}", max = crate::rope::MAX_ROTARY_DIM)]
    RotaryDim {
        /// The `rotary_dim` of the config.
        got: usize,
    },
    /// More features should be rotated than there are.
    #[error("rotary_dim must be at most head_dim = {head_dim}, got {rotary_dim}")]
    RotaryDimAboveHeadDim {
        /// Twice the number of planes of the table.
        rotary_dim: usize,
        /// Features of the array to rotate.
        head_dim: usize,
    },
    /// The base of the wavelengths does not make them grow.
    #[error("base must be finite and above 1, got {got}")]
    Base {
        /// The `base` of the config.
        got: f64,
    },
    /// A frequency is infinite or NaN.
    #[error("inv_freq must be finite, got {got} at index {index}")]
    InvFreq {
        /// Plane.
        index: usize,
        /// Its value.
        got: f64,
    },
    /// An angle is infinite or NaN.
    #[error("angles must be finite, got {got} at index {index:?}")]
    Angle {
        /// Sequence element and plane.
        index: [usize; 2],
        /// Its value.
        got: f64,
    },
    /// The factor on cosine and sine is infinite or NaN.
    #[error("attention_factor must be finite, got {got}")]
    AttentionFactor {
        /// What was passed.
        got: f64,
    },
    /// A position is not exact in `f64`, or its angle is not finite.
    #[error("positions must be at most 2^53 and give finite angles, got {got} at index {index}")]
    Position {
        /// Index into `positions`.
        index: usize,
        /// Its value.
        got: usize,
    },
    /// The table was made for another sequence length.
    #[error(
        "the table must have seq = {seq} rows, or one for each of the batch of {batch}, got {got}"
    )]
    TableRows {
        /// `seq` of the array to rotate.
        seq: usize,
        /// `batch` of the array to rotate.
        batch: usize,
        /// Rows of the table.
        got: usize,
    },
    /// The result does not fit into the address space.
    #[error("the result must fit into the address space, got {rows} rows of {columns} elements")]
    TooLarge {
        /// Rows of the result.
        rows: usize,
        /// Elements in each row.
        columns: usize,
    },

    // RoPE: tables, scalings, axes, permutation.
    /// Cosines and sines that are not of each other.
    #[error("cos and sin must have the same shape, got {cos:?} and {sin:?}")]
    TableShapes {
        /// Shape of the cosines.
        cos: [usize; 2],
        /// Shape of the sines.
        sin: [usize; 2],
    },
    /// A cosine or sine is infinite or NaN.
    #[error("cos and sin must be finite, got {got} at index {index:?}")]
    TableValue {
        /// Row and plane.
        index: [usize; 2],
        /// Its value.
        got: f32,
    },
}
