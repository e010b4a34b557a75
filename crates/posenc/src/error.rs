//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PosencError {
    /// `rotary_dim` is odd, zero, or beyond any sensible size.
    #[error("rotary_dim must be even and in 2..={max}, got {got}", max = crate::rope::MAX_ROTARY_DIM)]
    RotaryDim {
        /// The `rotary_dim` of the config.
        got: usize,
    },
    /// `head_dim` is zero, not a multiple of what its planes need, or beyond any sensible size.
    #[error("head_dim must be a multiple of {multiple} in {multiple}..={max}, got {got}")]
    HeadDim {
        /// 2 for planes over the whole head, 4 where both halves of it have planes.
        multiple: usize,
        /// The largest.
        max: usize,
        /// What was passed.
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
    #[error("base must be finite and above 1, got {got:?}")]
    Base {
        /// The `base` of the config.
        got: f64,
    },
    /// A frequency is infinite or NaN.
    #[error("inv_freq must be finite, got {got:?} at index {index}")]
    InvFreq {
        /// Plane.
        index: usize,
        /// Its value.
        got: f64,
    },
    /// An angle is infinite or NaN.
    #[error("angles must be finite, got {got:?} at index {index:?}")]
    Angle {
        /// Sequence element and plane.
        index: [usize; 2],
        /// Its value.
        got: f64,
    },
    /// The factor on cosine and sine is infinite or NaN, or becomes so as the `f32` that tables have.
    #[error("attention_factor must be finite in f32, got {got:?}")]
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
    /// There is not one position for each sequence element.
    #[error("positions must have length {seq} (seq), got {got}")]
    PositionsLen {
        /// `seq` of the array to rotate.
        seq: usize,
        /// Length of the positions.
        got: usize,
    },
    /// A result does not fit into memory, or a list of positions does not that repeats one element.
    #[error("arrays must fit into memory, got {rows} rows of {columns} elements")]
    TooLarge {
        /// Rows of the array.
        rows: usize,
        /// Elements in each row.
        columns: usize,
    },
    /// Cosines and sines that are not of each other.
    #[error("cos and sin must have the same shape, got {cos:?} and {sin:?}")]
    TableShapes {
        /// Shape of the cosines.
        cos: [usize; 2],
        /// Shape of the sines.
        sin: [usize; 2],
    },
    /// A cosine or sine is infinite or NaN.
    #[error("cos and sin must be finite, got {got:?} at index {index:?}")]
    TableValue {
        /// Row and plane.
        index: [usize; 2],
        /// Its value.
        got: f32,
    },
    /// A setting of a scaling is not finite or not positive.
    #[error("{name} must be finite and positive, got {got:?}")]
    ScalingNumber {
        /// Which setting.
        name: &'static str,
        /// Its value.
        got: f64,
    },
    /// A factor in a list of a scaling is not finite or not positive.
    #[error("{name} must be finite and positive, got {got:?} at index {index}")]
    ScalingFactor {
        /// Which list.
        name: &'static str,
        /// Plane.
        index: usize,
        /// Its factor.
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
    #[error("{low} must be {relation} {high} = {high_value:?}, got {low_value:?}")]
    ScalingOrder {
        /// `"below"`, or `"at most"` where the bounds may be equal.
        relation: &'static str,
        /// The setting that must not be the higher one.
        low: &'static str,
        /// Its value.
        low_value: f64,
        /// The other setting.
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
    #[error("the scaled base must be finite and above 1, got {got:?}")]
    ScaledBase {
        /// The base after scaling.
        got: f64,
    },
    /// llama.cpp's mixture of two sets of frequencies is not one.
    #[error("ext_factor must be in 0..=1, got {got:?}")]
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
        /// `rotary_dim`.
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
    #[error("distances must have length {}, got {got}", one_or(*seq))]
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
    // Sinusoidal and learned positions.
    /// `d_model` is too small for its frequencies, or beyond any sensible size.
    #[error("d_model must be in {min}..={max}, got {got}", max = crate::sinusoidal::MAX_D_MODEL)]
    SinusoidalDModel {
        /// The smallest for which the frequencies exist: 1, or 4 with `IOverHalfDimMinusOne`.
        min: usize,
        /// The `d_model` of the config.
        got: usize,
    },
    /// The last sine has no cosine, so inner products depend on more than the distance.
    #[error("d_model must be even where inner products are a function of the distance, got {got}")]
    DecayDModel {
        /// The `d_model` of the config.
        got: usize,
    },
    /// A distance is infinite or NaN.
    #[error("distances must be finite, got {got:?} at index {index}")]
    DecayDistance {
        /// Index into `distances`.
        index: usize,
        /// Its value.
        got: f64,
    },
    /// The encoding was made for another width.
    #[error("x must have d_model = {expected} features, as the encoding has, got {got}")]
    DModel {
        /// Features of the encoding or of the table.
        expected: usize,
        /// Features of the array to add to.
        got: usize,
    },
    /// There is not one position for each token.
    #[error("positions must have the shape [batch, seq] = {expected:?}, got {got:?}")]
    PositionsShape {
        /// `batch` and `seq` of the tokens.
        expected: [usize; 2],
        /// Shape of the positions.
        got: [usize; 2],
    },
    /// A position has no row in the table.
    #[error("positions must be below n_positions = {n_positions}, got {got} at index {index:?}")]
    PositionOutsideTable {
        /// Row of the batch and sequence element.
        index: [usize; 2],
        /// Its position.
        got: usize,
        /// Rows of the table.
        n_positions: usize,
    },
    /// More tokens should be in the cache than the mask has.
    #[error("past must be at most kv_seq = {kv_seq}, got {got}")]
    Past {
        /// Tokens of the mask.
        kv_seq: usize,
        /// What was passed.
        got: usize,
    },
    /// Positions would start below zero, or run out of numbers.
    #[error("offset or padding_idx must be in {min}..={max}, got {got}", max = isize::MAX)]
    PositionOffset {
        /// 1 where padding stands one below the offset, or else 0.
        min: usize,
        /// The offset or `padding_idx` of the convention.
        got: usize,
    },
    // Biases.
    /// There is no head, or more than any sensible number of them.
    #[error("n_heads must be in 1..={max}, got {got}", max = crate::alibi::MAX_HEADS)]
    Heads {
        /// Number of heads.
        got: usize,
    },
    /// The exponent of the smallest slope of ALiBi is negative, infinite or NaN.
    #[error("max_bias must be finite and at least 0, got {got:?}")]
    MaxBias {
        /// What was passed.
        got: f64,
    },
    /// A slope of ALiBi is negative, infinite or NaN.
    #[error("slopes must be finite and at least 0, got {got:?} at head {head}")]
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
    #[error("r1 must be finite and above 0, got {got:?} at head {head}")]
    KerpleR1 {
        /// Head.
        head: usize,
        /// Its value.
        got: f64,
    },
    /// The second parameter of a KERPLE kernel is out of its range.
    #[error("r2 must be {}, got {got:?} at head {head}", above_zero(*maximum))]
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
    /// A bias, or what a bias or its gradient is made from, does not fit into memory.
    #[error("arrays must fit into memory, got the shape {shape:?}")]
    BiasTooLarge {
        /// `[heads, seq, kv_seq]`, 1 in front of an array without heads; with a batch `[batch, heads, kv_seq]`.
        shape: [usize; 3],
    },
    // The GPU form.
    /// A tensor on the device has another number of axes.
    #[cfg(feature = "gpu")]
    #[error("the tensor must have {expected} axes, got {got}")]
    Rank {
        /// Axes that the function works on.
        expected: usize,
        /// Axes of the tensor.
        got: usize,
    },
    /// A tensor on the device does not fit another one.
    #[cfg(feature = "gpu")]
    #[error("the tensor must have the shape {expected:?}, got {got:?}")]
    GpuShape {
        /// The shape that fits.
        expected: Vec<usize>,
        /// The shape of the tensor.
        got: Vec<usize>,
    },
    /// The device, or what is recorded for it, refuses.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] llm_gpu::GpuError),
}

/// Lengths of distances: one for each key, or one for all.
fn one_or(seq: usize) -> String {
    match seq {
        1 => "1 (seq)".to_owned(),
        _ => format!("{seq} (seq) or 1"),
    }
}

/// The range of the second parameter of KERPLE.
fn above_zero(maximum: f64) -> String {
    if maximum.is_finite() {
        format!("above 0 and at most {maximum:?}")
    } else {
        "finite and above 0".to_owned()
    }
}
