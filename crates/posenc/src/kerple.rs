//! KERPLE: a learned kernel of the distance as a bias on attention scores.

use llm_numerics::Float;
use ndarray::{Array1, Array3, ArrayRef1, ArrayRef3};

use crate::PosencError;
use crate::diagonals::{self, Sharing, check_heads};

/// How the penalty grows with the distance `d`; both are 0 at distance 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KerpleKernel {
    /// `-r1 ln(1 + r2 d)` with `r1 > 0`, `r2 > 0`: the one that the paper recommends.
    Logarithmic,
    /// `-r1 d^r2` with `r1 > 0`, `0 < r2 <= 2`; with `r2 = 1` it is ALiBi with the slope `r1`.
    Power,
}

/// The bias of one score, for use inside a loop over scores.
///
/// ```text
/// d = |query + kv_seq - seq - key|
/// logarithmic: -r1 ln(1 + r2 d)
/// power:       -r1 d^r2
/// ```
///
/// Query `i` stands at position `i + kv_seq - seq`: the last query beside the last key. [`bias`] has
/// the same bits. Nothing is checked and nothing panics.
///
/// # Precision
///
/// Computed in `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_posenc::kerple::{self, KerpleKernel};
///
/// // One new query after 3 cached keys; key 0 is 3 tokens away.
/// let bias = kerple::score_bias(0.5_f64, 2.0, 0, 0, 1, 4, KerpleKernel::Power);
/// assert_eq!(bias, -4.5); // -0.5 * 3^2
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
#[inline]
#[must_use]
pub fn score_bias<F: Float>(
    r1: F,
    r2: F,
    query: usize,
    key: usize,
    seq: usize,
    kv_seq: usize,
    kernel: KerpleKernel,
) -> F {
    let distance = distance(query, key, seq, kv_seq);
    // Subtracted from 0, so that distance 0 gives 0 and not -0.
    F::from_f64(0.0 - r1.as_f64() * growth(r2.as_f64(), distance, kernel))
}

/// The bias of every head, query and key, to be added to the scaled scores.
///
/// ```text
/// d = |i + kv_seq - seq - j|
/// logarithmic: bias[h, i, j] = -r1[h] ln(1 + r2[h] d)
/// power:       bias[h, i, j] = -r1[h] d^r2[h]
/// ```
///
/// # Shapes
///
/// - `r1`, `r2`: `[heads]`
/// - returns: `[heads, seq, kv_seq]`
///
/// # Errors
///
/// - [`PosencError::Heads`] if there are no heads, or more than [`MAX_HEADS`](crate::alibi::MAX_HEADS).
/// - [`PosencError::BiasHeads`] if `r1` and `r2` have different lengths.
/// - [`PosencError::KerpleR1`] or [`PosencError::KerpleR2`] if a parameter is outside of the range
///   of the kernel (the bias would not be a conditionally positive definite kernel).
/// - [`PosencError::BiasTooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// Computed in `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_posenc::kerple::{self, KerpleKernel};
/// use ndarray::array;
///
/// let (r1, r2) = (array![1.0], array![1.0]);
/// let bias = kerple::bias(&r1, &r2, 2, 2, KerpleKernel::Logarithmic)?;
/// let near = -2_f64.ln();
/// assert_eq!(bias, array![[[0.0, near], [near, 0.0]]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Chi et al., KERPLE, arXiv:2205.09921v2, the logarithmic and the power variant. The
/// authors' code knows causal attention only and keeps both parameters above 0.01 by clamping.
pub fn bias<F: Float>(
    r1: &ArrayRef1<F>,
    r2: &ArrayRef1<F>,
    seq: usize,
    kv_seq: usize,
    kernel: KerpleKernel,
) -> Result<Array3<F>, PosencError> {
    check_parameters(r1, r2, kernel)?;
    let shape = [r1.len(), seq, kv_seq];
    diagonals::fill(shape, Sharing::Diagonal, |head| {
        Sharing::Diagonal
            .places(seq, kv_seq)
            .map(move |(query, key)| {
                score_bias(r1[head], r2[head], query, key, seq, kv_seq, kernel)
            })
    })
}

/// The gradients for `r1` and `r2` of [`bias`], in this order.
///
/// ```text
/// logarithmic: dr1 = -sum dbias ln(1 + r2 d),   dr2 = -r1 sum dbias d / (1 + r2 d)
/// power:       dr1 = -sum dbias d^r2,           dr2 = -r1 sum dbias d^r2 ln d
/// ```
///
/// Distance 0 adds nothing to any of them: `d^r2 ln d` goes to 0 with `d`.
///
/// # Shapes
///
/// - `dbias`: `[heads, seq, kv_seq]`, the gradient for the scores, summed over the batch
/// - `r1`, `r2`: `[heads]`
/// - returns: `[heads]` each
///
/// # Errors
///
/// As [`bias`], for `dbias` (which may be longer than memory because it repeats) and `seq + kv_seq` sums; and
/// [`PosencError::BiasHeads`] if `dbias` has another number of heads than `r1`.
///
/// # Precision
///
/// Summed in `f64` in a fixed order, rounded once. NaN makes the gradients of its head NaN.
///
/// # Example
///
/// ```
/// use llm_posenc::kerple::{self, KerpleKernel};
/// use ndarray::array;
///
/// let dbias = array![[[7.0, 1.0, 2.0]]]; // one query beside the last of 3 keys: distances 2 1 0
/// let (dr1, dr2) = kerple::backward(&dbias, &array![0.5], &array![2.0], KerpleKernel::Power)?;
/// assert_eq!(dr1, array![-29.0]); // -(7 * 2^2 + 1 * 1^2 + 2 * 0)
/// assert_eq!(dr2, array![-14.0 * 2_f64.ln()]); // -0.5 * 7 * 4 ln 2; ln 1 is 0
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward<F: Float>(
    dbias: &ArrayRef3<F>,
    r1: &ArrayRef1<F>,
    r2: &ArrayRef1<F>,
    kernel: KerpleKernel,
) -> Result<(Array1<F>, Array1<F>), PosencError> {
    check_parameters(r1, r2, kernel)?;
    let (heads, seq, kv_seq) = dbias.dim();
    if heads != r1.len() {
        return Err(PosencError::BiasHeads {
            name: "dbias",
            expected: r1.len(),
            got: heads,
        });
    }
    let gradients = diagonals::sum(dbias, Sharing::Diagonal, |head, sums| {
        let (r1, r2) = (r1[head].as_f64(), r2[head].as_f64());
        let (mut dr1, mut dr2) = (0.0, 0.0);
        for (&dbias, (query, key)) in sums.iter().zip(Sharing::Diagonal.places(seq, kv_seq)) {
            let distance = distance(query, key, seq, kv_seq);
            dr1 -= dbias * growth(r2, distance, kernel);
            dr2 -= dbias * (r1 * growth_slope(r2, distance, kernel));
        }
        (F::from_f64(dr1), F::from_f64(dr2))
    })?;
    let (dr1, dr2): (Vec<F>, Vec<F>) = gradients.into_iter().unzip();
    Ok((dr1.into(), dr2.into()))
}

fn distance(query: usize, key: usize, seq: usize, kv_seq: usize) -> f64 {
    let query = query as i128 + kv_seq as i128 - seq as i128;
    (query - key as i128).unsigned_abs() as f64
}

/// What `-r1` is multiplied with.
fn growth(r2: f64, distance: f64, kernel: KerpleKernel) -> f64 {
    match kernel {
        KerpleKernel::Logarithmic => (r2 * distance).ln_1p(),
        KerpleKernel::Power => distance.powf(r2),
    }
}

/// The derivative of [`growth`] for `r2`.
fn growth_slope(r2: f64, distance: f64, kernel: KerpleKernel) -> f64 {
    match kernel {
        _ if distance == 0.0 => 0.0,
        KerpleKernel::Logarithmic => distance / (1.0 + r2 * distance),
        KerpleKernel::Power => distance.powf(r2) * distance.ln(),
    }
}

fn check_parameters<F: Float>(
    r1: &ArrayRef1<F>,
    r2: &ArrayRef1<F>,
    kernel: KerpleKernel,
) -> Result<(), PosencError> {
    check_heads(r1.len())?;
    if r1.len() != r2.len() {
        return Err(PosencError::BiasHeads {
            name: "r2",
            expected: r1.len(),
            got: r2.len(),
        });
    }
    let maximum = match kernel {
        KerpleKernel::Logarithmic => f64::INFINITY,
        KerpleKernel::Power => 2.0,
    };
    for (head, (r1, r2)) in r1.iter().zip(r2).enumerate() {
        let (r1, r2) = (r1.as_f64(), r2.as_f64());
        if !(r1.is_finite() && r1 > 0.0) {
            return Err(PosencError::KerpleR1 { head, got: r1 });
        }
        if !(r2.is_finite() && r2 > 0.0 && r2 <= maximum) {
            let got = r2;
            return Err(PosencError::KerpleR2 { head, maximum, got });
        }
    }
    Ok(())
}
