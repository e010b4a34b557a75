//! Everything that this crate refuses.

use crate::dynamic_map::MapSign;

/// Everything that this crate can refuse, one variant per rule that a caller can break.
///
/// A message says what must hold and what came, with the numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The block size is none of those offered.
    #[error("block must be one of {offered:?} (elements), got {got}")]
    Block {
        /// The sizes that are offered.
        offered: &'static [usize],
        /// What came.
        got: usize,
    },
    /// A weight is NaN or infinite.
    #[error("elements must be finite, got {value} at {index} (row-major)")]
    NonFinite {
        /// Place of the first such element in row-major order.
        index: usize,
        /// What stands there.
        value: f32,
    },
    /// The packed bytes are not two elements a byte of the shape.
    #[error("packed must have length {expected} (two elements of {shape:?} a byte), got {got}")]
    PackedLen {
        /// Shape of the weights.
        shape: Vec<usize>,
        /// Bytes that the shape needs.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// There is not one code for each element.
    #[error("codes must have length {expected} (one for each element of {shape:?}), got {got}")]
    CodesLen {
        /// Shape of the numbers.
        shape: Vec<usize>,
        /// Codes that the shape needs.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// There is not one scale for each block.
    #[error(
        "scales must have length {expected} (one for each block of {block} elements), got {got}"
    )]
    ScalesLen {
        /// Elements of a block.
        block: usize,
        /// Blocks that the elements fill.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A product of sizes does not fit.
    #[error("the product of {shape:?} must be at most {}", isize::MAX)]
    Size {
        /// The sizes.
        shape: Vec<usize>,
    },
    /// The memory could not be had.
    #[error("{elements} elements must fit into memory, the allocator refused them")]
    TooLarge {
        /// What was asked for.
        elements: usize,
    },
    /// A probability is not strictly between its bounds.
    #[error("the probability must be above {low} and below 1, got {got}")]
    Probability {
        /// The lower bound.
        low: f64,
        /// What came.
        got: f64,
    },
    /// There is no dynamic map of such bits.
    #[error(
        "a dynamic map must have 2 to 8 bits and from 1 exponent bit to one less than those bits (exactly so many if \
         unsigned), got {total_bits} bits, {max_exponent_bits} exponent bits, {sign:?}"
    )]
    MapBits {
        /// Whether the map has negative values.
        sign: MapSign,
        /// Bits of the exponent at most.
        max_exponent_bits: u32,
        /// Bits of a code.
        total_bits: u32,
    },
    /// Weights of a product are not a matrix.
    #[error("weights of a product must have shape [d_out, d_in], got {shape:?}")]
    WeightRank {
        /// Shape of the weights.
        shape: Vec<usize>,
    },
    /// The axes that a product sums over have different lengths.
    #[error(
        "the columns of an array of {x:?} must be the axis of weights of {weights:?} that is summed over"
    )]
    InnerAxis {
        /// Shape of the array that is not packed.
        x: [usize; 2],
        /// Shape of the weights.
        weights: [usize; 2],
    },
    /// The factors of a low-rank update have different ranks.
    #[error("the rows of a low-rank factor A of {a:?} must be the columns of B of {b:?} (rank)")]
    Rank {
        /// Shape of A.
        a: [usize; 2],
        /// Shape of B.
        b: [usize; 2],
    },
    /// A low-rank update is one of other weights.
    #[error("a low-rank update must have the shape of the weights, {expected:?}, got {got:?}")]
    UpdateShape {
        /// Shape of the weights.
        expected: [usize; 2],
        /// Rows of B and columns of A.
        got: [usize; 2],
    },
    /// The factor of a low-rank update cannot be.
    #[error("the scaling of a low-rank update must be finite, got {got}")]
    Scaling {
        /// What came.
        got: f32,
    },
    /// An input and the gradient of its output have different rows.
    #[error("x must have as many rows as dout, {expected}, got {got}")]
    Rows {
        /// Rows of the gradient.
        expected: usize,
        /// Rows of the input.
        got: usize,
    },
    /// An output does not have the shape of the result.
    #[error("the output must have shape {expected:?}, got {got:?}")]
    OutShape {
        /// Shape of the result.
        expected: Vec<usize>,
        /// What came.
        got: Vec<usize>,
    },
    /// There is not one scale for each row.
    #[error("scales must have length {expected} (one for each row), got {got}")]
    RowScales {
        /// Rows that there are.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A code is none that rows are quantized to.
    #[error("codes of rows must be from -127 to 127, got {got} at {index} (row-major)")]
    RowCode {
        /// Place of the first such code in row-major order.
        index: usize,
        /// What stands there.
        got: i8,
    },
    /// The threshold of outliers is no magnitude.
    #[error("the threshold of outliers must be finite and not negative, got {got}")]
    Threshold {
        /// What came.
        got: f32,
    },
    /// The factor of an integer product cannot be.
    #[error("the factor of an integer product must be finite and above 0, got {got}")]
    Factor {
        /// What came.
        got: f32,
    },
    /// A block has no element.
    #[error("block must be at least 1 (elements), got 0")]
    EmptyBlock,
    /// There are more or fewer zero points than the scheme needs.
    #[error(
        "there must be {expected} zero points (one for each block, none if symmetric), got {got}"
    )]
    ZeroPointsLen {
        /// How many are needed.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A zero point is no code.
    #[error("zero points must be codes of at most {largest}, got {got} for block {index}")]
    ZeroPoint {
        /// The first block with such a one.
        index: usize,
        /// The largest code.
        largest: u8,
        /// What came.
        got: u8,
    },
    /// Values are no code book.
    #[error(
        "values of a code book must be finite and ascending from -1 to 1 with 0 among them, got {got:?}"
    )]
    CodeBook {
        /// What came.
        got: [f32; 16],
    },
    /// A histogram has no bin.
    #[error("a histogram must have at least 1 bin, got 0")]
    Bins,
    /// The ends of a histogram are none.
    #[error(
        "the ends of a histogram must be finite and so must their distance, low below high, got {low} to {high}"
    )]
    Bounds {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// A density cannot be so wide or narrow.
    #[error("the scale of a density must be finite and above 0, got {got}")]
    DensityScale {
        /// What came.
        got: f64,
    },
    /// Arrays that should be compared have different shapes.
    #[error(
        "numbers must have the shape {exact:?} of those that they are compared with, got {got:?}"
    )]
    ComparedShapes {
        /// Shape of the exact numbers.
        exact: Vec<usize>,
        /// Shape of the others.
        got: Vec<usize>,
    },
}
