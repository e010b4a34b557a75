//! Attention over pieces of the keys, merged by log-sum-exp into attention over all of them.

use ndarray::{
    Array3, Array4, ArrayRef3, ArrayRef4, ArrayView1, ArrayViewMut1, ArrayViewMut2, Axis, Zip, s,
};

use crate::{AttentionError, memory};
use llm_numerics::softmax::softmax_slice;
use llm_numerics::{Float, threads};

/// Elements of all pieces from which on threads are woken.
const PARALLEL: usize = 1 << 18;
/// Queries that one task works on.
const ROWS: usize = 64;

/// The gradients of [`backward`], one array for each piece.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For the outputs of the pieces: `[batch, n_heads, seq, value_dim]` each.
    pub douts: Vec<Array4<F>>,
    /// For the log-sum-exps of the pieces: `[batch, n_heads, seq]` each.
    pub dlses: Vec<Array3<F>>,
}

/// One attention from attentions of the same queries to disjoint sets of keys.
///
/// For each query, over the pieces `p`:
///
/// ```text
/// lse = ln sum_p e^(lse_p)
/// out = sum_p e^(lse_p - lse) out_p
/// ```
///
/// The pieces may be those of a long cache that are worked on at the same time (split-KV
/// decoding), a prefix that many sequences share and the suffix of each (cascade), or the
/// blocks that pass by in ring attention. How the keys are cut does not matter, and a
/// result may be merged again.
///
/// # Shapes
///
/// - `outs`: one `[batch, n_heads, seq, value_dim]` for each piece, any strides
/// - `lses`: one `[batch, n_heads, seq]` for each piece, as
///   [`flash::forward_with_lse`](crate::flash::forward_with_lse) returns it with `outs`
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// A piece whose `lse` is `-inf` saw no key of that query: its row of `outs` is not read,
/// whatever it holds. If no piece saw a key, the row is zero and its `lse` is `-inf`.
///
/// # Errors
///
/// - [`AttentionError::NoPieces`] if there is no piece.
/// - [`AttentionError::Pieces`] if `outs` and `lses` have different lengths.
/// - [`AttentionError::PieceShape`], [`AttentionError::PieceLseShape`] if a piece does not have
///   the shape of the first.
/// - [`AttentionError::TooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// Weights are taken relative to the largest `lse` and divided by their sum, so nothing
/// overflows, and large `lse` cost no digits. Sums in `F`, in the order of the pieces:
/// another order differs by rounding. A row that one piece alone saw comes out bit for bit.
/// The same bits for any number of threads.
///
/// A NaN or an infinity in `outs` reaches its own element (infinity times a weight that
/// underflows is NaN). A `lse` of NaN or `+inf` weighs nothing that can be computed: the
/// row and its `lse` are NaN.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, flash, merge};
/// use ndarray::{Array4, s};
///
/// let q = Array4::<f64>::ones((1, 4, 1, 8)); // [batch, n_heads, seq, head_dim]
/// let k = Array4::from_shape_fn((1, 2, 10, 8), |(_, h, j, d)| (h + j * d) as f64 / 50.0);
/// let config = AttentionConfig::new(Mask::Full);
/// let attend = |first: usize, end: usize| {
///     let keys = k.slice(s![.., .., first..end, ..]);
///     flash::forward_with_lse(&q, &keys, &keys, &config)
/// };
///
/// let (prefix, prefix_lse) = attend(0, 7)?;
/// let (suffix, suffix_lse) = attend(7, 10)?;
/// let (out, lse) = merge::forward(&[&prefix, &suffix], &[&prefix_lse, &suffix_lse])?;
///
/// let (want, want_lse) = attend(0, 10)?;
/// assert!((out - want).iter().all(|x| x.abs() < 1e-14));
/// assert!((lse - want_lse).iter().all(|x| x.abs() < 1e-14));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, section 2.3.1 (two blocks of a row);
/// for a shared prefix, Juravsky et al., Hydragen, arXiv:2402.05099v1.
pub fn forward<F: Float>(
    outs: &[&ArrayRef4<F>],
    lses: &[&ArrayRef3<F>],
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    let shape = check_pieces(outs, lses)?;
    let (weights, lse) = weights(shape, lses)?;
    memory::fits::<F>(shape)?;
    let mut out = Array4::zeros(shape);
    let row = |b: usize, h: usize, i: usize, mut out: ArrayViewMut1<'_, F>| {
        let mut is_first = true;
        for (p, piece) in outs.iter().enumerate() {
            if lses[p][[b, h, i]] == F::neg_infinity() {
                continue;
            }
            let weight = weights[[b, h, i, p]];
            let piece = piece.slice(s![b, h, i, ..]);
            if is_first {
                // Not added to zero, which would turn -0 into 0.
                Zip::from(&mut out)
                    .and(&piece)
                    .for_each(|out, &x| *out = weight * x);
                is_first = false;
            } else {
                Zip::from(&mut out)
                    .and(&piece)
                    .for_each(|out, &x| *out += weight * x);
            }
        }
    };
    for_each_row(&mut out, outs.len(), row);
    Ok((out, lse))
}

/// The gradients of [`forward`] for the outputs and the log-sum-exps of the pieces.
///
/// With the weights `w_p = e^(lse_p - lse)`, computed anew from `lses`:
///
/// ```text
/// dout_p = w_p dout
/// dlse_p = w_p (<dout, out_p - out> + dlse)
/// ```
///
/// Not needed to train on pieces: `flash::backward` of a piece, given the merged `out` and
/// `lse`, yields that piece's share of the gradients of the whole.
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`, `out` from [`forward`]
/// - `dlse`: `[batch, n_heads, seq]`; `None` counts as zeros
/// - `outs`, `lses`: as in [`forward`]
/// - returns: `douts` shaped as `outs`, `dlses` as `lses`
///
/// A piece whose `lse` is `-inf` gets gradients of zero.
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` or `out`, and
/// [`AttentionError::DlseShape`] if `dlse` does not have the shape above.
///
/// # Precision
///
/// Sums in `F`, the same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::merge;
/// use ndarray::{Array3, Array4};
///
/// // Two pieces with the same log-sum-exp: weights of a half.
/// let (x, y) = (Array4::from_elem((1, 1, 1, 1), 3.0), Array4::from_elem((1, 1, 1, 1), 5.0));
/// let lse = Array3::zeros((1, 1, 1));
/// let (out, _) = merge::forward(&[&x, &y], &[&lse, &lse])?;
/// let dout = Array4::ones((1, 1, 1, 1));
/// let gradients = merge::backward(&dout, None, &[&x, &y], &[&lse, &lse], &out)?;
/// assert_eq!(gradients.douts[0][[0, 0, 0, 0]], 0.5);
/// assert_eq!(gradients.dlses[0][[0, 0, 0]], -0.5); // more weight to 3 lowers the mean
/// assert_eq!(gradients.dlses[1][[0, 0, 0]], 0.5);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
pub fn backward<F: Float>(
    dout: &ArrayRef4<F>,
    dlse: Option<&ArrayRef3<F>>,
    outs: &[&ArrayRef4<F>],
    lses: &[&ArrayRef3<F>],
    out: &ArrayRef4<F>,
) -> Result<Gradients<F>, AttentionError> {
    let shape = check_pieces(outs, lses)?;
    for (name, array) in [("dout", dout), ("out", out)] {
        let got = array.dim().into();
        if got != shape {
            let expected = shape;
            return Err(AttentionError::Shape {
                name,
                expected,
                got,
            });
        }
    }
    if let Some(dlse) = dlse {
        let (expected, got) = (lse_shape(shape), dlse.dim().into());
        if got != expected {
            return Err(AttentionError::DlseShape { expected, got });
        }
    }
    let (weights, _) = weights(shape, lses)?;
    memory::fits::<F>(shape)?;
    let mut gradients = Gradients {
        douts: Vec::with_capacity(outs.len()),
        dlses: Vec::with_capacity(outs.len()),
    };
    for (p, (piece, piece_lse)) in outs.iter().zip(lses).enumerate() {
        let mut dpiece = Array4::zeros(shape);
        let row = |b: usize, h: usize, i: usize, mut dpiece: ArrayViewMut1<'_, F>| {
            if piece_lse[[b, h, i]] != F::neg_infinity() {
                let weight = weights[[b, h, i, p]];
                dpiece.zip_mut_with(&dout.slice(s![b, h, i, ..]), |dpiece, &dout| {
                    *dpiece = weight * dout;
                });
            }
        };
        for_each_row(&mut dpiece, 1, row);
        let dpiece_lse = Array3::from_shape_fn(lse_shape(shape), |(b, h, i)| {
            if piece_lse[[b, h, i]] == F::neg_infinity() {
                return F::zero();
            }
            let of_out = dot_difference(
                dout.slice(s![b, h, i, ..]),
                piece.slice(s![b, h, i, ..]),
                out.slice(s![b, h, i, ..]),
            );
            let of_lse = dlse.map_or(F::zero(), |dlse| dlse[[b, h, i]]);
            weights[[b, h, i, p]] * (of_out + of_lse)
        });
        gradients.douts.push(dpiece);
        gradients.dlses.push(dpiece_lse);
    }
    Ok(gradients)
}

/// `<x, a - b>`.
fn dot_difference<F: Float>(x: ArrayView1<'_, F>, a: ArrayView1<'_, F>, b: ArrayView1<'_, F>) -> F {
    let terms = x.iter().zip(a.iter().zip(&b));
    terms.map(|(&x, (&a, &b))| x * (a - b)).sum()
}

/// What each piece counts, `[batch, n_heads, seq, pieces]`, and the log-sum-exp of the whole.
fn weights<F: Float>(
    [batch, n_heads, seq, _]: [usize; 4],
    lses: &[&ArrayRef3<F>],
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    memory::fits::<F>([batch, n_heads, seq, lses.len()])?;
    let mut weights = Array4::zeros((batch, n_heads, seq, lses.len()));
    for (p, lse) in lses.iter().enumerate() {
        weights.index_axis_mut(Axis(3), p).assign(lse);
    }
    let mut lse = Array3::zeros((batch, n_heads, seq));
    let rows = weights.as_slice_mut().unwrap_or_default(); // zeros are contiguous
    for (row, lse) in rows.chunks_mut(lses.len()).zip(&mut lse) {
        let mut seen = row.iter().filter(|x| **x != F::neg_infinity());
        let only = match (seen.next(), seen.next()) {
            (Some(&x), None) if x.is_finite() => Some(x),
            _ => None,
        };
        *lse = softmax_slice(row);
        if let Some(only) = only {
            *lse = only; // the sum makes -0 to 0
        }
    }
    Ok((weights, lse))
}

/// Calls `work(batch, head, query, row)` with each row of `out`.
fn for_each_row<F: Float>(
    out: &mut Array4<F>,
    n_reads: usize,
    work: impl Fn(usize, usize, usize, ArrayViewMut1<'_, F>) + Sync + Send,
) {
    if out.is_empty() {
        return; // however many rows of nothing there are
    }
    let is_parallel = out.len().saturating_mul(n_reads) >= PARALLEL;
    let n_heads = out.dim().1;
    let heads = out.outer_iter_mut().flat_map(|x| x.into_outer_iter_mut());
    let mut items = Vec::new();
    for (index, head) in heads.enumerate() {
        let (b, h) = (index / n_heads, index % n_heads);
        let runs = head.into_axis_chunks_iter_mut(Axis(0), ROWS);
        items.extend(runs.enumerate().map(|(run, rows)| (b, h, run * ROWS, rows)));
    }
    let run = |(b, h, first, mut rows): (usize, usize, usize, ArrayViewMut2<'_, F>)| {
        for (i, row) in rows.outer_iter_mut().enumerate() {
            work(b, h, first + i, row);
        }
    };
    if is_parallel {
        threads::for_each(items, run);
    } else {
        items.into_iter().for_each(run);
    }
}

/// The shape of the outputs, which all pieces have.
fn check_pieces<F>(
    outs: &[&ArrayRef4<F>],
    lses: &[&ArrayRef3<F>],
) -> Result<[usize; 4], AttentionError> {
    if outs.len() != lses.len() {
        return Err(AttentionError::Pieces {
            outs: outs.len(),
            lses: lses.len(),
        });
    }
    let first = outs.first().ok_or(AttentionError::NoPieces)?;
    let expected: [usize; 4] = first.dim().into();
    for (piece, (out, lse)) in outs.iter().zip(lses).enumerate() {
        let got = out.dim().into();
        if got != expected {
            return Err(AttentionError::PieceShape {
                piece,
                expected,
                got,
            });
        }
        let (expected, got) = (lse_shape(expected), lse.dim().into());
        if got != expected {
            return Err(AttentionError::PieceLseShape {
                piece,
                expected,
                got,
            });
        }
    }
    Ok(expected)
}

fn lse_shape([batch, n_heads, seq, _]: [usize; 4]) -> [usize; 3] {
    [batch, n_heads, seq]
}
