//! From one pair layout to another: weights, biases, activations, cached keys.
//!
//! Query and key projections make the features that a rotation pairs. A model that was trained with one pairing runs with
//! another once the rows of those weights are reordered; scores stay the same, since queries and keys
//! are reordered alike. `conv` scripts between Meta's and Hugging Face's Llama do this.

use ndarray::{Array1, Array2, Array4, ArrayRef1, ArrayRef2, ArrayRef4, Axis};

use super::MAX_ROTARY_DIM;
use super::RopePairing;
use super::rotate::Layout;
use crate::PosencError;
use crate::memory::check_size;

/// The reordering of a head's features from one pairing to another.
///
/// It has two orders: of what a rotation reads (projection weights, queries and keys before
/// it) and of what it writes (queries and keys after it, cached keys). They differ for
/// [`RopePairing::ReadInterleavedWriteHalfSplit`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RopePermutation {
    /// Feature `j` of the new layout is feature `unrotated[j]` of the old one.
    unrotated: Vec<usize>,
    rotated: Vec<usize>,
}

impl RopePermutation {
    /// The reordering of `head_dim` features, of which the first `rotary_dim` turn; the rest stay.
    ///
    /// ```text
    /// rope_to(P_unrotated x) = P_rotated rope_from(x)
    /// ```
    ///
    /// # Errors
    ///
    /// - [`PosencError::RotaryDim`] if `rotary_dim` is odd, zero or above [`MAX_ROTARY_DIM`].
    /// - [`PosencError::RotaryDimAboveHeadDim`] if it is above `head_dim`.
    /// - [`PosencError::TooLarge`] if the lists of features do not fit into memory.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::RopePairing;
    /// use llm_posenc::rope::permute::RopePermutation;
    ///
    /// let to_halves = RopePermutation::new(6, 4, RopePairing::Interleaved, RopePairing::HalfSplit)?;
    /// assert_eq!(to_halves.unrotated(), [0, 2, 1, 3, 4, 5]);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn new(
        head_dim: usize,
        rotary_dim: usize,
        from: RopePairing,
        to: RopePairing,
    ) -> Result<Self, PosencError> {
        if rotary_dim == 0 || rotary_dim % 2 == 1 || rotary_dim > MAX_ROTARY_DIM {
            return Err(PosencError::RotaryDim { got: rotary_dim });
        }
        if rotary_dim > head_dim {
            return Err(PosencError::RotaryDimAboveHeadDim {
                rotary_dim,
                head_dim,
            });
        }
        check_size::<[usize; 2]>(1, head_dim)?;
        let ((from_read, from_write), (to_read, to_write)) = (from.layouts(), to.layouts());
        Ok(Self {
            unrotated: order(head_dim, rotary_dim, from_read, to_read),
            rotated: order(head_dim, rotary_dim, from_write, to_write),
        })
    }

    /// Features of a head.
    #[must_use]
    pub const fn head_dim(&self) -> usize {
        self.unrotated.len()
    }

    /// The order of what a rotation reads: feature `j` of the new layout is feature `unrotated()[j]` of the old one.
    #[must_use]
    pub fn unrotated(&self) -> &[usize] {
        &self.unrotated
    }

    /// The order of what a rotation writes.
    #[must_use]
    pub fn rotated(&self) -> &[usize] {
        &self.rotated
    }
}

/// Reorders the rows of a query or key projection.
///
/// Each head is reordered by itself, so any number of query or key-value heads will do.
///
/// # Shapes
///
/// - `weight`: `[heads * head_dim, d_model]`, any element type
/// - returns: the same
///
/// # Errors
///
/// - [`PosencError::PermuteRows`] if the rows are not a multiple of `head_dim`.
/// - [`PosencError::TooLarge`] if the result does not fit into memory.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::RopePairing;
/// use llm_posenc::rope::permute::{self, RopePermutation};
/// use ndarray::array;
///
/// // Meta's rows to Hugging Face's, one head of four features.
/// let to_halves = RopePermutation::new(4, 4, RopePairing::Interleaved, RopePairing::HalfSplit)?;
/// let weight = array![[0.0], [0.1], [0.2], [0.3]];
/// assert_eq!(permute::weight(&weight, &to_halves)?, array![[0.0], [0.2], [0.1], [0.3]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `permute` in `convert_llama_weights_to_hf.py` of transformers 5.23, for `Interleaved` to `HalfSplit`.
pub fn weight<T: Clone>(
    weight: &ArrayRef2<T>,
    permutation: &RopePermutation,
) -> Result<Array2<T>, PosencError> {
    let (rows, columns) = weight.dim();
    check_rows(rows, permutation)?;
    check_size::<T>(rows, columns)?;
    let mut out = Vec::with_capacity(weight.len());
    if !weight.is_empty() {
        for head in weight.axis_chunks_iter(Axis(0), permutation.head_dim()) {
            for &row in permutation.unrotated() {
                out.extend(head.row(row).iter().cloned());
            }
        }
    }
    Array2::from_shape_vec((rows, columns), out)
        .map_err(|_| PosencError::TooLarge { rows, columns })
}

/// Reorders the bias of a query or key projection.
///
/// # Shapes
///
/// - `bias`: `[heads * head_dim]`
/// - returns: the same
///
/// # Errors
///
/// As [`weight`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::RopePairing;
/// use llm_posenc::rope::permute::{self, RopePermutation};
/// use ndarray::array;
///
/// let to_halves = RopePermutation::new(4, 4, RopePairing::Interleaved, RopePairing::HalfSplit)?;
/// let bias = array![0, 1, 2, 3, 10, 11, 12, 13]; // two heads
/// assert_eq!(permute::bias(&bias, &to_halves)?, array![0, 2, 1, 3, 10, 12, 11, 13]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn bias<T: Clone>(
    bias: &ArrayRef1<T>,
    permutation: &RopePermutation,
) -> Result<Array1<T>, PosencError> {
    check_rows(bias.len(), permutation)?;
    check_size::<T>(bias.len(), 1)?;
    let mut out = Vec::with_capacity(bias.len());
    for head in bias.axis_chunks_iter(Axis(0), permutation.head_dim()) {
        let order = permutation.unrotated().iter();
        out.extend(order.map(|&feature| head[feature].clone()));
    }
    Ok(out.into())
}

/// Reorders queries or keys that have not been rotated, or gradients of such.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - returns: the same
///
/// # Errors
///
/// - [`PosencError::PermuteHeadDim`] if the permutation was made for another `head_dim`.
/// - [`PosencError::TooLarge`] if the result does not fit into memory.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::RopePairing::{HalfSplit, Interleaved};
/// use llm_posenc::rope::permute::{self, RopePermutation};
/// use llm_posenc::rope::{self, RopeConfig};
/// use ndarray::array;
///
/// let to_halves = RopePermutation::new(4, 4, Interleaved, HalfSplit)?;
/// let q = array![[[[0.0, 1.0, 2.0, 3.0]]]]; // [batch, heads, seq, head_dim]
/// let halves = permute::unrotated(&q, &to_halves)?;
/// assert_eq!(halves, array![[[[0.0, 2.0, 1.0, 3.0]]]]);
/// // Rotated by the other pairing, it is the permutation of what the first one gives.
/// let got = rope::apply_at(&halves, &array![5], &RopeConfig::new(4, HalfSplit))?;
/// let want = rope::apply_at(&q, &array![5], &RopeConfig::new(4, Interleaved))?;
/// assert_eq!(got, permute::rotated(&want, &to_halves)?);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn unrotated<T: Clone>(
    x: &ArrayRef4<T>,
    permutation: &RopePermutation,
) -> Result<Array4<T>, PosencError> {
    features(x, &permutation.unrotated)
}

/// Reorders queries or keys that have been rotated, such as the keys of a cache.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - returns: the same
///
/// # Errors
///
/// As [`unrotated`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::RopePairing;
/// use llm_posenc::rope::permute::{self, RopePermutation};
/// use ndarray::array;
///
/// // Keys that DeepSeek-V3 has cached are half-split already.
/// let from = RopePairing::ReadInterleavedWriteHalfSplit;
/// let permutation = RopePermutation::new(4, 4, from, RopePairing::HalfSplit)?;
/// let k = array![[[[0, 1, 2, 3]]]]; // [batch, heads, seq, head_dim]
/// assert_eq!(permute::rotated(&k, &permutation)?, k);
/// assert_eq!(permute::unrotated(&k, &permutation)?, array![[[[0, 2, 1, 3]]]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn rotated<T: Clone>(
    x: &ArrayRef4<T>,
    permutation: &RopePermutation,
) -> Result<Array4<T>, PosencError> {
    features(x, &permutation.rotated)
}

fn features<T: Clone>(x: &ArrayRef4<T>, order: &[usize]) -> Result<Array4<T>, PosencError> {
    let (batch, heads, seq, got) = x.dim();
    let expected = order.len();
    if got != expected {
        return Err(PosencError::PermuteHeadDim { expected, got });
    }
    // The product of the non-zero axes of an array fits into `isize`, and `head_dim` is not zero.
    let (rows, columns) = (batch * heads * seq, got);
    check_size::<T>(rows, columns)?;
    let mut out = Vec::with_capacity(x.len());
    for token in x.lanes(Axis(3)) {
        out.extend(order.iter().map(|&feature| token[feature].clone()));
    }
    Array4::from_shape_vec(x.dim(), out).map_err(|_| PosencError::TooLarge { rows, columns })
}

fn check_rows(rows: usize, permutation: &RopePermutation) -> Result<(), PosencError> {
    let head_dim = permutation.head_dim();
    if rows.is_multiple_of(head_dim) {
        Ok(())
    } else {
        Err(PosencError::PermuteRows { rows, head_dim })
    }
}

/// For each feature of the layout `to`, its index in the layout `from`.
fn order(head_dim: usize, rotary_dim: usize, from: Layout, to: Layout) -> Vec<usize> {
    let half = rotary_dim / 2;
    (0..head_dim)
        .map(|j| match (from, to) {
            _ if j >= rotary_dim => j,
            (Layout::Pairs, Layout::Halves) => 2 * (j % half) + j / half,
            (Layout::Halves, Layout::Pairs) => j / 2 + (j % 2) * half,
            _ => j,
        })
        .collect()
}
