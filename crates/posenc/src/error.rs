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
    #[error("the table must have one row per sequence element ({expected}), got {got}")]
    TableSeq {
        /// `seq` of the array to rotate.
        expected: usize,
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
    /// There is no head, or more than any sensible number of them.
    #[error("n_heads must be in 1..={max}, got {got}", max = crate::alibi::MAX_HEADS)]
    Heads {
        /// Number of heads.
        got: usize,
    },
    /// The exponent of the smallest slope of ALiBi is negative, infinite or NaN.
    #[error("max_bias must be finite and at least 0, got {got}")]
    MaxBias {
        /// What was passed.
        got: f64,
    },
    /// A slope of ALiBi is negative, infinite or NaN.
    #[error("slopes must be finite and at least 0, got {got} at head {head}")]
    Slope {
        /// Head.
        head: usize,
        /// Its slope.
        got: f64,
    },
    /// Key positions and gradient do not belong together.
    #[error("key positions must have the shape [batch, kv_seq] {expected:?}, got {got:?}")]
    KeyPositionsShape {
        /// `[batch, kv_seq]` of the gradient.
        expected: [usize; 2],
        /// Shape of the positions.
        got: [usize; 2],
    },
    /// The number of buckets of T5 cannot be split as the rule wants.
    #[error("n_buckets must be in {minimum}..={max}, and even with two directions, got {got}", max = crate::t5::MAX_BUCKETS)]
    T5Buckets {
        /// 4 with two directions, where the number must also be even; 2 with one.
        minimum: usize,
        /// What was passed.
        got: usize,
    },
    /// No distance would be left for the logarithmic buckets of T5.
    #[error(
        "max_distance must be above {exact} (the distances with a bucket of their own), got {got}"
    )]
    T5MaxDistance {
        /// Buckets that hold a single distance.
        exact: usize,
        /// What was passed.
        got: usize,
    },
    /// The table of T5 is made for another number of buckets.
    #[error("the table must have one row per bucket ({expected}), got {got}")]
    T5Table {
        /// `n_buckets` of the config.
        expected: usize,
        /// Rows of the table.
        got: usize,
    },
    /// The first parameter of a KERPLE kernel is out of its range.
    #[error("r1 must be finite and above 0, got {got} at head {head}")]
    KerpleR1 {
        /// Head.
        head: usize,
        /// Its value.
        got: f64,
    },
    /// The second parameter of a KERPLE kernel is out of its range.
    #[error("r2 must be finite, above 0 and at most {maximum}, got {got} at head {head}")]
    KerpleR2 {
        /// Head.
        head: usize,
        /// 2 with the power kernel, infinite with the logarithmic one.
        maximum: f64,
        /// Its value.
        got: f64,
    },
    /// Two arrays have different numbers of heads.
    #[error("{name} must have one entry per head ({expected}), got {got}")]
    BiasHeads {
        /// Which argument does not fit.
        name: &'static str,
        /// Heads of the first argument.
        expected: usize,
        /// Heads of the other.
        got: usize,
    },
    /// A bias does not fit into memory.
    #[error("a bias must fit into memory, got the shape {shape:?}")]
    BiasTooLarge {
        /// `[heads, seq, kv_seq]`; with a batch `[batch, heads, kv_seq]`.
        shape: [usize; 3],
    },
}
