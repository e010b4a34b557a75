//! Many rows: a tile of weights is unpacked for all of them.

use llm_numerics::{gemm, simd, threads};
use ndarray::{Array2, ArrayRef2, ArrayView2, Axis};

use super::update::Update;
use super::{unexpected, view};
use crate::QuantError;
use crate::four_bit::FourBit;
use crate::four_bit::blocks::zeros;
use crate::four_bit::dequantize::decode_run;

/// Elements of an unpacked tile: 256 KiB, which stay in the second-level cache.
const TILE: usize = 1 << 16;
/// Columns of a tile, if the weights have so many.
const DEPTH: usize = 512;
/// Columns of `dx` that a task of [`backward`] has.
const COLUMNS: usize = 256;

/// No axis has length zero.
pub(super) fn forward(
    x: &ArrayView2<'_, f32>,
    weights: &FourBit,
    update: Option<&Update<'_>>,
    out: &mut ArrayRef2<f32>,
) -> Result<(), QuantError> {
    let d_in = x.ncols();
    let depth = d_in.min(DEPTH);
    let height = (TILE / depth).min(out.ncols());
    // Each task has some rows of the weights, and goes through their columns.
    let tasks: Vec<_> = out
        .axis_chunks_iter_mut(Axis(1), height)
        .enumerate()
        .collect();
    let results = threads::map(tasks, |(task, mut out)| {
        let mut tile = zeros::<f32>(out.ncols() * depth)?;
        for column in (0..d_in).step_by(depth) {
            let depth = depth.min(d_in - column);
            let tile = &mut tile[..out.ncols() * depth];
            unpack(weights, [task * height, column], d_in, depth, tile);
            let tile = view(out.ncols(), depth, tile)?;
            let part = x.slice_axis(Axis(1), (column..column + depth).into());
            let beta = if column == 0 { 0.0 } else { 1.0 };
            gemm::general_matmul(1.0, &part, &tile.t(), beta, &mut out).map_err(unexpected)?;
        }
        if let Some(update) = update {
            update.add(task * height, &mut out)?; // while the columns are in the cache
        }
        Ok(())
    });
    results.into_iter().collect()
}

/// No axis has length zero; `dx` is zeros.
pub(super) fn backward(
    dout: &ArrayRef2<f32>,
    weights: &FourBit,
    update: Option<&Update<'_>>,
    dx: &mut Array2<f32>,
) -> Result<(), QuantError> {
    let (d_out, d_in) = (dout.ncols(), dx.ncols());
    // Each task has some columns of the weights, and goes through their rows.
    let columns = COLUMNS.min(d_in);
    let height = (TILE / columns).min(d_out);
    let tasks: Vec<_> = dx
        .axis_chunks_iter_mut(Axis(1), columns)
        .enumerate()
        .collect();
    let results = threads::map(tasks, |(task, mut dx)| {
        let width = dx.ncols();
        let mut tile = zeros::<f32>(width * height)?;
        for first in (0..d_out).step_by(height) {
            let height = height.min(d_out - first);
            let tile = &mut tile[..width * height];
            unpack(weights, [first, task * columns], d_in, width, tile);
            let tile = view(height, width, tile)?;
            let part = dout.slice_axis(Axis(1), (first..first + height).into());
            gemm::general_matmul(1.0, &part, &tile, 1.0, &mut dx).map_err(unexpected)?;
        }
        if let Some(update) = update {
            update.add(task * columns, &mut dx)?;
        }
        Ok(())
    });
    results.into_iter().collect()
}

/// Part of a matrix with rows of `d_in`, whose first element stands in that row and column.
fn unpack(
    weights: &FourBit,
    [row, column]: [usize; 2],
    d_in: usize,
    width: usize,
    tile: &mut [f32],
) {
    simd::vectorize(
        #[inline(always)]
        || {
            for (j, tile) in tile.chunks_exact_mut(width).enumerate() {
                decode_run(weights, (row + j) * d_in + column, tile);
            }
        },
    );
}
