//! Few rows of `x`: the weights are used as they are looked up, and read once.

use llm_numerics::simd::{self, CHUNK};
use llm_numerics::threads;
use ndarray::{Array2, ArrayViewMut2, Axis};

use crate::QuantError;
use crate::four_bit::FourBit;
use crate::four_bit::blocks::zeros;
use crate::four_bit::dequantize::decode_run;

/// Rows of `x` that are no longer few.
pub(super) const ROWS: usize = 5;
/// Multiply-adds of a task.
const TASK: usize = 1 << 18;

/// `x` has 1 to [`ROWS`]` - 1` rows, one behind the other; no axis has length zero.
pub(super) fn forward(
    x: &[f32],
    weights: &FourBit,
    out: &mut Array2<f32>,
) -> Result<(), QuantError> {
    let (seq, d_out) = out.dim();
    let d_in = x.len() / seq;
    let in_chunks = d_in.is_multiple_of(CHUNK) && weights.block().is_multiple_of(CHUNK);
    let mut arranged = Vec::new();
    if in_chunks {
        arranged = zeros::<f32>(x.len())?;
        simd::arrange(x, &mut arranged);
    }
    // The cut depends on the shapes alone.
    let n_rows = (TASK / x.len()).clamp(8, d_out.max(8));
    let tasks: Vec<_> = out
        .axis_chunks_iter_mut(Axis(1), n_rows)
        .enumerate()
        .collect();
    let results = threads::map(tasks, |(task, out)| {
        let first = task * n_rows;
        if in_chunks {
            by_chunks(&arranged, d_in, weights, first, out)
        } else {
            by_rows(x, d_in, weights, first, out)
        }
    });
    results.into_iter().collect()
}

/// Rows of weights that are whole chunks, each with one scale.
fn by_chunks(
    x: &[f32],
    d_in: usize,
    weights: &FourBit,
    first: usize,
    mut out: ArrayViewMut2<'_, f32>,
) -> Result<(), QuantError> {
    let numbers = &weights.code().table().numbers;
    let mut scales = zeros::<f32>(d_in / CHUNK)?;
    // Those of the blocks that a row touches; it may begin and end inside of one.
    let block = weights.block();
    let mut of_blocks = zeros::<f32>(d_in / block + 2)?;
    let mut rows = x.chunks_exact(d_in);
    let mut next = || rows.next().unwrap_or(&[]);
    let x = [next(), next(), next(), next()];
    for (j, mut out) in out.columns_mut().into_iter().enumerate() {
        let start = (first + j) * d_in;
        let packed = &weights.packed()[start / 2..][..d_in / 2];
        if block == CHUNK {
            weights.scales().fill(start / CHUNK, &mut scales);
        } else {
            let (first, end) = (start / block, (start + d_in).div_ceil(block));
            weights.scales().fill(first, &mut of_blocks[..end - first]);
            for (chunk, scale) in scales.iter_mut().enumerate() {
                *scale = of_blocks[(start + CHUNK * chunk) / block - first];
            }
        }
        let [a, b, c, d] = x;
        let mut products = [0.0; ROWS - 1];
        simd::vectorize(
            #[inline(always)]
            || match out.len() {
                1 => products[..1].copy_from_slice(&numbers.dots(packed, &scales, [a])),
                2 => products[..2].copy_from_slice(&numbers.dots(packed, &scales, [a, b])),
                3 => products[..3].copy_from_slice(&numbers.dots(packed, &scales, [a, b, c])),
                _ => products = numbers.dots(packed, &scales, [a, b, c, d]),
            },
        );
        for (out, product) in out.iter_mut().zip(products) {
            *out = product;
        }
    }
    Ok(())
}

/// One row of weights after the other, unpacked and used at once.
fn by_rows(
    x: &[f32],
    d_in: usize,
    weights: &FourBit,
    first: usize,
    mut out: ArrayViewMut2<'_, f32>,
) -> Result<(), QuantError> {
    let mut row = zeros::<f32>(d_in)?;
    for (j, mut out) in out.columns_mut().into_iter().enumerate() {
        simd::vectorize(
            #[inline(always)]
            || {
                decode_run(weights, (first + j) * d_in, &mut row);
                for (out, x) in out.iter_mut().zip(x.chunks_exact(d_in)) {
                    let [[product]] = simd::dots([&*row], [x]);
                    *out = product;
                }
            },
        );
    }
    Ok(())
}
