//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FfnError {
    /// An axis that packs gate and up values has an odd length.
    #[error("the packed axis must have an even length (2 * d_ff), got {0}")]
    PackedLen(usize),
    /// The upstream gradient does not have the shape of the output.
    #[error("dout must have shape {expected:?}, got {got:?}")]
    DoutShape {
        /// Shape of the output.
        expected: [usize; 2],
        /// Shape of the array that was passed.
        got: [usize; 2],
    },
    /// The array to write into does not have the shape of the result.
    #[error("out must have shape {expected:?}, got {got:?}")]
    OutShape {
        /// Shape of the result.
        expected: [usize; 2],
        /// Shape of the array that was passed.
        got: [usize; 2],
    },
    /// The gate and the up matrix differ in shape.
    #[error("up must have the shape of gate [d_ff, d_model] = {gate:?}, got {up:?}")]
    UpShape {
        /// Shape of the gate matrix.
        gate: [usize; 2],
        /// Shape of the up matrix.
        up: [usize; 2],
    },
    /// The down matrix does not fit the gate and up matrices.
    #[error("down must have shape [d_model, d_ff] = {expected:?}, got {got:?}")]
    DownShape {
        /// Shape that fits.
        expected: [usize; 2],
        /// Shape of the matrix that was passed.
        got: [usize; 2],
    },
    /// A bias does not have one entry per row of its matrix.
    #[error("the {name} bias must have length {expected}, got {got}")]
    BiasLen {
        /// Which bias: `gate`, `up`, `gate_up` or `down`.
        name: &'static str,
        /// Rows of the matrix.
        expected: usize,
        /// Length of the bias that was passed.
        got: usize,
    },
    /// The tokens are not as wide as the weights.
    #[error("x must have {expected} columns (d_model), got {got}")]
    InputWidth {
        /// Width of the weights.
        expected: usize,
        /// Columns of `x`.
        got: usize,
    },
    /// The saved values do not belong to this input and these weights.
    #[error("saved must be of shape [tokens, 2 * d_ff] = {expected:?}, got {got:?}")]
    SavedShape {
        /// Shape that fits.
        expected: [usize; 2],
        /// Shape of the saved values.
        got: [usize; 2],
    },
    /// The norm's weight does not have one entry per feature.
    #[error("weight must have length {expected} (d_model), got {got}")]
    WeightLen {
        /// Columns of `x`.
        expected: usize,
        /// Length of the weight that was passed.
        got: usize,
    },
    /// There is not one reciprocal standard deviation per token.
    #[error("rstd must have length {expected} (tokens), got {got}")]
    RstdLen {
        /// Rows of `x`.
        expected: usize,
        /// Length of the array that was passed.
        got: usize,
    },
    /// `eps` is negative or not finite.
    #[error("eps must be finite and >= 0, got {0}")]
    Eps(f64),
}
