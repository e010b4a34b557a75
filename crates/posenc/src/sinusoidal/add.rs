//! Sinusoidal positions added to embeddings, in place.

use ndarray::{ArrayRef1, ArrayRef2, ArrayRef3, ArrayView1, ArrayViewMut3, Axis, Zip};

use super::{Encoder, SinusoidalConfig, TASK, check_range, is_too_far};
use crate::PosencError;
use llm_numerics::{Float, threads};

/// Adds to each token the row of its position: `x[b, t] += table[first_position + t]`.
///
/// All sequences of the batch have the same positions; `first_position` is the number of tokens before them, in
/// a cache. Models often scale the embeddings by `sqrt(d_model)` before. The gradient passes through unchanged.
///
/// # Shapes
///
/// - `x`: `[batch, seq, d_model]`, any strides
///
/// # Errors
///
/// `x` is then unchanged.
///
/// - As [`inv_freq`](super::inv_freq).
/// - [`PosencError::DModel`] if `d_model` is not the config's `d_model`.
/// - [`PosencError::Position`] if a position is above 2^53.
///
/// # Precision
///
/// One sum in `F` with a row in `f32`: for `f64` arrays the row is right to `3e-8`.
///
/// # Example
///
/// ```
/// use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
/// use ndarray::Array3;
///
/// let config = SinusoidalConfig::new(4, SinusoidalLayout::Interleaved, SinusoidalExponent::TwoIOverDim);
/// let mut x = Array3::<f32>::ones((2, 3, 4)); // [batch, seq, d_model]
/// sinusoidal::add_inplace(&mut x, 5, &config)?;
/// assert_eq!(x[[1, 2, 1]], 1.0 + 7_f64.cos() as f32);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn add_inplace<F: Float>(
    x: &mut ArrayRef3<F>,
    first_position: usize,
    config: &SinusoidalConfig,
) -> Result<(), PosencError> {
    let encoder = Encoder::new(config)?;
    let (batch, seq, d_model) = x.dim();
    check_d_model(config.d_model, d_model)?;
    check_range(first_position, seq)?;
    if x.is_empty() {
        return Ok(());
    }
    let length = (TASK / d_model).max(1);
    let tasks = x.axis_chunks_iter_mut(Axis(1), length).enumerate();
    threads::for_each(
        tasks.collect(),
        |(i, mut x): (usize, ArrayViewMut3<'_, F>)| {
            let mut row = vec![0.0; d_model];
            for (t, mut x) in x.axis_iter_mut(Axis(1)).enumerate() {
                encoder.fill(&mut row, first_position + i * length + t);
                for b in 0..batch {
                    add(&mut x.row_mut(b), &row);
                }
            }
        },
    );
    Ok(())
}

/// [`add_inplace`] where each token brings its position: `x[b, t] += table[positions[b, t]]`.
///
/// For padded batches, with the [positions](crate::learned::positions) of the model's convention.
///
/// # Shapes
///
/// - `x`: `[batch, seq, d_model]`, any strides
/// - `positions`: `[batch, seq]`
///
/// # Errors
///
/// `x` is then unchanged.
///
/// - As [`inv_freq`](super::inv_freq).
/// - [`PosencError::DModel`] if `d_model` is not the config's `d_model`.
/// - [`PosencError::PositionsShape`] if there is not one position for each token.
/// - [`PosencError::Position`] if a position is above 2^53; the index counts tokens through the batch.
///
/// # Precision
///
/// As [`add_inplace`].
///
/// # Example
///
/// ```
/// use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
/// use ndarray::{Array3, array};
///
/// let config = SinusoidalConfig::new(4, SinusoidalLayout::Interleaved, SinusoidalExponent::TwoIOverDim);
/// let mut x = Array3::<f32>::zeros((2, 3, 4)); // [batch, seq, d_model]
/// let positions = array![[0, 1, 2], [0, 0, 1]]; // the second row is padded on the left
/// sinusoidal::add_at_inplace(&mut x, &positions, &config)?;
/// assert_eq!(x[[0, 1, 0]], 1_f64.sin() as f32);
/// assert_eq!(x[[1, 2, 0]], x[[0, 1, 0]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn add_at_inplace<F: Float>(
    x: &mut ArrayRef3<F>,
    positions: &ArrayRef2<usize>,
    config: &SinusoidalConfig,
) -> Result<(), PosencError> {
    let encoder = Encoder::new(config)?;
    let (batch, seq, d_model) = x.dim();
    check_d_model(config.d_model, d_model)?;
    if positions.dim() != (batch, seq) {
        return Err(PosencError::PositionsShape {
            expected: [batch, seq],
            got: positions.dim().into(),
        });
    }
    let mut tokens = positions.iter().enumerate();
    if let Some((index, &got)) = tokens.find(|&(_, &p)| is_too_far(p)) {
        return Err(PosencError::Position { index, got });
    }
    if x.is_empty() {
        return Ok(());
    }
    let length = (TASK / d_model / batch).max(1);
    let tasks = x.axis_chunks_iter_mut(Axis(1), length).enumerate();
    threads::for_each(
        tasks.collect(),
        |(i, mut x): (usize, ArrayViewMut3<'_, F>)| {
            let mut row = vec![0.0; d_model];
            for (b, mut x) in x.outer_iter_mut().enumerate() {
                for (t, mut x) in x.outer_iter_mut().enumerate() {
                    encoder.fill(&mut row, positions[[b, i * length + t]]);
                    add(&mut x, &row);
                }
            }
        },
    );
    Ok(())
}

fn add<F: Float>(x: &mut ArrayRef1<F>, row: &[f32]) {
    let row = ArrayView1::from(row);
    Zip::from(x)
        .and(row)
        .for_each(|x, &y| *x += F::from_f64(f64::from(y)));
}

fn check_d_model(expected: usize, got: usize) -> Result<(), PosencError> {
    if got == expected {
        Ok(())
    } else {
        Err(PosencError::DModel { expected, got })
    }
}
