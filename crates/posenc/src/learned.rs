//! Learned absolute positions: a row of a trained table for each position, and where counting starts.

use ndarray::{
    Array2, Array3, ArrayRef2, ArrayRef3, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, Slice,
    Zip, s,
};

use crate::{PosencError, memory};
use llm_numerics::{Float, threads};

/// Elements that are worth a task of their own.
const TASK: usize = 1 << 17;

/// Features of a task of the backward, at least: fewer would read memory in crumbs.
const FEATURES: usize = 128;

/// Which row of the table a token gets: implementations disagree.
///
/// A table that was trained with one convention gives wrong results with another, without any error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PositionConvention {
    /// `offset + t`, padding or not: GPT-2 and BERT with offset 0; BART and mBART with offset 2.
    Index {
        /// Rows at the start of the table that no token gets.
        offset: usize,
    },
    /// The number of tokens before this one, padding left out; padding gets 0.
    ///
    /// What `generate` of transformers 5.23 makes from an attention mask, so that left padding changes nothing.
    TokenCount,
    /// `cumsum(mask) mask - 1 + offset`: OPT, with offset 2. Padding gets `offset - 1`.
    Opt {
        /// Row of the first token; at least 1.
        offset: usize,
    },
    /// `padding_idx + (past + cumsum(mask)) mask`: fairseq, `RoBERTa`, XLM-R, M2M100. Padding gets `padding_idx`.
    ///
    /// The sum runs over the new tokens only; each of the `past` ones counts, padding or not.
    Roberta {
        /// Row of the padding, 1 in the models named above; the first token has the one after it.
        padding_idx: usize,
    },
}

/// The position of each token from its place among padding and tokens, as the convention says.
///
/// ```text
/// Index:       offset + t
/// TokenCount:  max(count_t - 1, 0) mask_t
/// Opt:         count_t mask_t - 1 + offset
/// Roberta:     padding_idx + (past + new_t) mask_t
/// ```
///
/// with `t` from `past` on, `count_t` the number of tokens up to `t` in the row, itself included, and `new_t` the same
/// from `past` on.
///
/// # Shapes
///
/// - `mask`: `[batch, kv_seq]`, true where a token stands, false at padding; the first `past` columns are in the cache
/// - returns: `[batch, kv_seq - past]`
///
/// # Errors
///
/// - [`PosencError::Past`] if `past` is more than `kv_seq`.
/// - [`PosencError::PositionOffset`] if an offset or `padding_idx` is above `isize::MAX`, or the one of `Opt` is 0.
/// - [`PosencError::TooLarge`] if there is no memory for the result, or a mask is longer than memory because it repeats.
///
/// # Example
///
/// ```
/// use llm_posenc::learned::{self, PositionConvention};
/// use ndarray::array;
///
/// let ids = array![[1, 1, 40, 41, 42]]; // padded on the left with the id 1
/// let mask = ids.mapv(|id| id != 1); // [batch, kv_seq]
/// let positions = |convention| learned::positions(&mask, 0, convention);
/// assert_eq!(positions(PositionConvention::Index { offset: 0 })?, array![[0, 1, 2, 3, 4]]);
/// assert_eq!(positions(PositionConvention::TokenCount)?, array![[0, 0, 0, 1, 2]]);
/// assert_eq!(positions(PositionConvention::Opt { offset: 2 })?, array![[1, 1, 2, 3, 4]]);
/// assert_eq!(positions(PositionConvention::Roberta { padding_idx: 1 })?, array![[1, 1, 2, 3, 4]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: transformers 5.23: `OPTLearnedPositionalEmbedding`, `create_position_ids_from_input_ids` of `RoBERTa`,
/// `BartLearnedPositionalEmbedding`, `_prepare_position_ids_for_generation`.
pub fn positions(
    mask: &ArrayRef2<bool>,
    past: usize,
    convention: PositionConvention,
) -> Result<Array2<usize>, PosencError> {
    let (batch, kv_seq) = mask.dim();
    let seq = kv_seq
        .checked_sub(past)
        .ok_or(PosencError::Past { kv_seq, got: past })?;
    let (min, start) = match convention {
        PositionConvention::Index { offset } => (0, offset),
        PositionConvention::TokenCount => (0, 0),
        PositionConvention::Opt { offset } => (1, offset),
        PositionConvention::Roberta { padding_idx } => (0, padding_idx),
    };
    // With this bound no sum below overflows: a row is shorter than `isize::MAX` too.
    if start < min || isize::try_from(start).is_err() {
        return Err(PosencError::PositionOffset { min, got: start });
    }
    let mut out = memory::zeros(batch, seq)?;
    if out.is_empty() {
        return Ok(out);
    }
    memory::check_size::<bool>(batch, kv_seq)?;
    for (mask, mut out) in mask.outer_iter().zip(out.outer_iter_mut()) {
        let count = |mask: ndarray::ArrayView1<'_, bool>| mask.iter().filter(|&&m| m).count();
        let mut count = match convention {
            PositionConvention::Roberta { .. } | PositionConvention::Index { .. } => past,
            _ => count(mask.slice(s![..past])),
        };
        for (out, &is_token) in out.iter_mut().zip(mask.slice(s![past..])) {
            let is_counted = is_token || matches!(convention, PositionConvention::Index { .. });
            count += usize::from(is_counted);
            *out = match (convention, is_counted) {
                (PositionConvention::Roberta { padding_idx }, true) => padding_idx + count,
                (PositionConvention::Roberta { padding_idx }, false) => padding_idx,
                (PositionConvention::TokenCount, false) => 0,
                (_, true) => start + count - 1,
                (_, false) => start - 1,
            };
        }
    }
    Ok(out)
}

/// Looks up the row of each position: `out[b, t] = table[positions[b, t]]`.
///
/// # Shapes
///
/// - `table`: `[n_positions, d_model]`, `positions`: `[batch, seq]`, any strides
/// - returns: `[batch, seq, d_model]`
///
/// # Errors
///
/// - [`PosencError::PositionOutsideTable`] if a position is not below `n_positions`.
/// - [`PosencError::TooLarge`] if there is no memory for the result, or for as many positions.
///
/// # Precision
///
/// Exact: a copy, NaN included.
///
/// # Example
///
/// ```
/// use llm_posenc::learned;
/// use ndarray::array;
///
/// let table = array![[0.5, 0.0], [1.0, -1.0], [2.0, 4.0]]; // [n_positions, d_model]
/// let out = learned::embed(&table, &array![[0, 2, 2]])?; // [batch, seq, d_model]
/// assert_eq!(out, array![[[0.5, 0.0], [2.0, 4.0], [2.0, 4.0]]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Gehring et al., Convolutional Sequence to Sequence Learning, arXiv:1705.03122v3, section 3.1.
// ANCHOR: embed
pub fn embed<F: Float>(
    table: &ArrayRef2<F>,
    positions: &ArrayRef2<usize>,
) -> Result<Array3<F>, PosencError> {
    let (batch, seq) = positions.dim();
    let (n_positions, d_model) = table.dim();
    let (rows, columns) = (positions.len(), d_model);
    let mut out = memory::zeros(rows, columns)?
        .into_shape_with_order((batch, seq, d_model))
        .map_err(|_| PosencError::TooLarge { rows, columns })?;
    check_positions(positions, n_positions)?;
    for_each_row(&mut out, table, positions, |out, row| *out = row);
    Ok(out)
}
// ANCHOR_END: embed

/// Adds to each token the row of its position: `x[b, t] += table[positions[b, t]]`.
///
/// # Shapes
///
/// - `x`: `[batch, seq, d_model]`, `table`: `[n_positions, d_model]`, `positions`: `[batch, seq]`, any strides
///
/// # Errors
///
/// `x` is then unchanged.
///
/// - [`PosencError::PositionsShape`] if there is not one position for each token.
/// - [`PosencError::DModel`] if the table does not have `d_model` columns.
/// - [`PosencError::PositionOutsideTable`] if a position is not below `n_positions`.
/// - [`PosencError::TooLarge`] if there is no memory for as many positions.
///
/// # Precision
///
/// One sum in `F`.
///
/// # Example
///
/// ```
/// use llm_posenc::learned;
/// use ndarray::array;
///
/// let table = array![[0.5, 0.0], [1.0, -1.0]]; // [n_positions, d_model]
/// let mut x = array![[[1.0, 1.0], [1.0, 1.0]]]; // [batch, seq, d_model]
/// learned::add_inplace(&mut x, &table, &array![[0, 1]])?;
/// assert_eq!(x, array![[[1.5, 1.0], [2.0, 0.0]]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn add_inplace<F: Float>(
    x: &mut ArrayRef3<F>,
    table: &ArrayRef2<F>,
    positions: &ArrayRef2<usize>,
) -> Result<(), PosencError> {
    let (batch, seq, d_model) = x.dim();
    check_shape([batch, seq], positions)?;
    if table.ncols() != d_model {
        return Err(PosencError::DModel {
            expected: table.ncols(),
            got: d_model,
        });
    }
    check_positions(positions, table.nrows())?;
    for_each_row(x, table, positions, |x, row| *x += row);
    Ok(())
}

/// The gradient for the table of [`embed`] and of [`add_inplace`]: `dtable[positions[b, t]] += dout[b, t]`.
///
/// A position that occurs several times gets the sum; one that does not occur gets zeros. The gradient for the `x` of
/// [`add_inplace`] is `dout` itself. Where torch has an `nn.Embedding` with a `padding_idx` (`RoBERTa` has one, OPT has
/// none), that row is not trained: set it to zero afterwards.
///
/// # Shapes
///
/// - `dout`: `[batch, seq, d_model]`, `positions`: `[batch, seq]`, any strides
/// - returns: `[n_positions, d_model]`
///
/// # Errors
///
/// - [`PosencError::PositionsShape`] if there is not one position for each token.
/// - [`PosencError::PositionOutsideTable`] if a position is not below `n_positions`.
/// - [`PosencError::TooLarge`] if there is no memory for the result, or for as many positions, or `dout` is longer than
///   memory because it repeats.
///
/// # Precision
///
/// Sums in `F`, over the tokens in their order: the same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_posenc::learned;
/// use ndarray::array;
///
/// let dout = array![[[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]]; // [batch, seq, d_model]
/// let dtable = learned::backward(&dout, &array![[0, 2, 2]], 3)?; // [n_positions, d_model]
/// assert_eq!(dtable, array![[1.0, 2.0], [0.0, 0.0], [110.0, 220.0]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward<F: Float>(
    dout: &ArrayRef3<F>,
    positions: &ArrayRef2<usize>,
    n_positions: usize,
) -> Result<Array2<F>, PosencError> {
    let (batch, seq, d_model) = dout.dim();
    check_shape([batch, seq], positions)?;
    check_positions(positions, n_positions)?;
    memory::check_size::<F>(batch * seq, d_model)?; // of what is walked through
    let mut dtable = memory::zeros(n_positions, d_model)?;
    if dout.is_empty() || dtable.is_empty() {
        return Ok(dtable);
    }
    // Each task has some features of all rows, and goes through all tokens: no element has two writers.
    let n_tasks = (dout.len() / TASK).max(1);
    let length = d_model.div_ceil(n_tasks).max(FEATURES);
    let tasks = dtable.axis_chunks_iter_mut(Axis(1), length).enumerate();
    threads::for_each(
        tasks.collect(),
        |(i, mut dtable): (usize, ArrayViewMut2<'_, F>)| {
            let start = i * length;
            let features = Slice::from(start..start + dtable.ncols());
            let dout: ArrayView3<'_, F> = dout.slice_axis(Axis(2), features);
            for (dout, positions) in dout.outer_iter().zip(positions.outer_iter()) {
                for (dout, &position) in dout.outer_iter().zip(positions) {
                    let row = dtable.row_mut(position);
                    Zip::from(row).and(dout).for_each(|sum, &x| *sum += x);
                }
            }
        },
    );
    Ok(dtable)
}

/// Calls `work` on each element of `x` and the one of its table row. Shapes and positions have been checked.
fn for_each_row<F: Float>(
    x: &mut ArrayRef3<F>,
    table: &ArrayRef2<F>,
    positions: &ArrayRef2<usize>,
    work: impl Fn(&mut F, F) + Sync + Send,
) {
    if x.is_empty() {
        return;
    }
    let n_tasks = (x.len() / TASK).max(1);
    let axis = usize::from(x.dim().1 > x.dim().0);
    let (axis, length) = (Axis(axis), x.shape()[axis].div_ceil(n_tasks));
    let tasks = x.axis_chunks_iter_mut(axis, length).enumerate();
    threads::for_each(
        tasks.collect(),
        |(i, mut x): (usize, ArrayViewMut3<'_, F>)| {
            let start = i * length;
            let part = Slice::from(start..start + x.len_of(axis));
            let positions = positions.slice_axis(axis, part);
            for (mut x, positions) in x.outer_iter_mut().zip(positions.outer_iter()) {
                for (x, &position) in x.outer_iter_mut().zip(positions) {
                    let row = table.row(position);
                    Zip::from(x).and(row).for_each(|x, &row| work(x, row));
                }
            }
        },
    );
}

fn check_shape(expected: [usize; 2], positions: &ArrayRef2<usize>) -> Result<(), PosencError> {
    let got = positions.dim().into();
    if got == expected {
        Ok(())
    } else {
        Err(PosencError::PositionsShape { expected, got })
    }
}

fn check_positions(positions: &ArrayRef2<usize>, n_positions: usize) -> Result<(), PosencError> {
    memory::check_size::<usize>(positions.len(), 1)?;
    let mut all = positions.indexed_iter();
    match all.find(|&(_, &position)| position >= n_positions) {
        None => Ok(()),
        Some((index, &got)) => Err(PosencError::PositionOutsideTable {
            index: index.into(),
            got,
            n_positions,
        }),
    }
}
