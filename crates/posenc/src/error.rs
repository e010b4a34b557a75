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
    /// A setting of a scaling is not finite or not positive.
    #[error("{name} must be finite and positive, got {got}")]
    ScalingNumber {
        /// Which setting.
        name: &'static str,
        /// Its value.
        got: f64,
    },
    /// A length of a scaling is too short.
    #[error("{name} must be at least {min}, got {got}")]
    ScalingLength {
        /// Which setting.
        name: &'static str,
        /// Its least value.
        min: usize,
        /// Its value.
        got: usize,
    },
    /// Two bounds of a scaling are in the wrong order.
    #[error("{low} must be below {high} = {high_value}, got {low_value}")]
    ScalingOrder {
        /// The setting that must be lower.
        low: &'static str,
        /// Its value.
        low_value: f64,
        /// The setting that must be higher.
        high: &'static str,
        /// Its value.
        high_value: f64,
    },
    /// A list of factors does not have one for each plane.
    #[error("{name} must have length {expected} (rotary_dim / 2), got {got}")]
    ScalingLen {
        /// Which list.
        name: &'static str,
        /// Number of planes.
        expected: usize,
        /// Length of the list.
        got: usize,
    },
    /// NTK-aware scaling divides by `rotary_dim - 2`.
    #[error("rotary_dim must be above 2 for NTK-aware scaling, got {got}")]
    NtkRotaryDim {
        /// The `rotary_dim` of the config.
        got: usize,
    },
    /// A scaling leads to a base that does not make wavelengths grow.
    #[error("the scaled base must be finite and above 1, got {got}")]
    ScaledBase {
        /// The base after scaling.
        got: f64,
    },
    /// llama.cpp's mixture of two sets of frequencies is not one.
    #[error("ext_factor must be in 0..=1, got {got}")]
    YarnExtFactor {
        /// The `ext_factor` of the dialect.
        got: f64,
    },
    /// The sections of M-RoPE do not cover the planes.
    #[error(
        "sections must add up to {n_planes} planes (and be three if interleaved), got {sum} in {count} sections"
    )]
    MropeSections {
        /// Number of frequencies.
        n_planes: usize,
        /// Sum of the sections, `usize::MAX` where it overflows.
        sum: usize,
        /// Number of sections.
        count: usize,
    },
    /// Positions do not have as many axes as the method.
    #[error("positions must have {expected} axes, got {got}")]
    PositionAxes {
        /// Axes of the method.
        expected: usize,
        /// Axes of the positions.
        got: usize,
    },
    /// Features that are cut into two halves of pairs are not a multiple of four.
    #[error("rotated features must be a multiple of 4, got {got}")]
    Quarters {
        /// `rotary_dim` or `head_dim`.
        got: usize,
    },
    /// Positions and block positions are not of the same tokens.
    #[error(
        "positions and block positions must have the same shape, got {positions:?} and {block_positions:?}"
    )]
    PositionShapes {
        /// Shape of the positions.
        positions: [usize; 2],
        /// Shape of the block positions.
        block_positions: [usize; 2],
    },
    /// The mask token stands behind the context that it is in.
    #[error("mask must be below context = {context}, got {got}")]
    MaskPosition {
        /// Tokens of the prompt.
        context: usize,
        /// Position of the mask.
        got: usize,
    },
    /// The tables of `ChatGLM` were made for heads of another size.
    #[error("head_dim must be {expected}, got {got}")]
    ChatGlmHeadDim {
        /// Features that the two tables turn.
        expected: usize,
        /// Features of the array.
        got: usize,
    },
    /// Rows of a projection that are not whole heads.
    #[error("rows must be a multiple of head_dim = {head_dim}, got {rows}")]
    PermuteRows {
        /// Rows of the weight or bias.
        rows: usize,
        /// `head_dim` of the permutation.
        head_dim: usize,
    },
    /// The permutation was made for heads of another size.
    #[error("head_dim must be {expected}, as in the permutation, got {got}")]
    PermuteHeadDim {
        /// `head_dim` of the permutation.
        expected: usize,
        /// Features of the array.
        got: usize,
    },
    /// Distances do not have one entry for each sequence element.
    #[error("distances must have length {seq} (seq) or 1, got {got}")]
    Distances {
        /// `seq` of the keys.
        seq: usize,
        /// Length of the distances.
        got: usize,
    },
    /// A distance is not exact in `f64`, or its angle is not finite.
    #[error("distances must be within 2^53 and give finite angles, got {got} at index {index}")]
    Distance {
        /// Index into `distances`.
        index: usize,
        /// Its value.
        got: i64,
    },
}
