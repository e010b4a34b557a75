//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumericsError {
    /// The inner axes of a matrix product differ.
    #[error("the columns of a must equal the rows of b, got a [{}, {}] and b [{}, {}]", a[0], a[1], b[0], b[1])]
    InnerAxis {
        /// Shape of the left factor.
        a: [usize; 2],
        /// Shape of the right factor.
        b: [usize; 2],
    },
    /// The output of a matrix product does not have the shape of the product.
    #[error("out must have shape [{}, {}], got [{}, {}]", expected[0], expected[1], got[0], got[1])]
    OutShape {
        /// Rows of `a`, columns of `b`.
        expected: [usize; 2],
        /// Shape of the array that was passed.
        got: [usize; 2],
    },
    /// A result would need more memory than there is.
    #[error("a result of shape [{}, {}] must fit in memory, and does not", shape[0], shape[1])]
    TooLarge {
        /// Shape of the result.
        shape: [usize; 2],
    },
}
