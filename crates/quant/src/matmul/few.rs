//! Few rows of `x`: the weights are used as they are looked up, and read once.

use llm_numerics::simd::{self, CHUNK, ShortChunk, Sixteen, WholeChunk};
use llm_numerics::threads;
use ndarray::{ArrayRef2, ArrayViewMut2, Axis};

use super::ActivationBits;
use super::update::Update;
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
    bits: ActivationBits,
    update: Option<&Update<'_>>,
    out: &mut ArrayRef2<f32>,
) -> Result<(), QuantError> {
    let d_in = x.len() / out.nrows();
    if d_in.is_multiple_of(CHUNK) && weights.block().is_multiple_of(CHUNK) {
        let is_done = match bits {
            ActivationBits::Bits27 => whole::<WholeChunk>(x, weights, update, out)?,
            ActivationBits::Bits15 => whole::<ShortChunk>(x, weights, update, out)?,
        };
        if is_done {
            return Ok(());
        }
    }
    in_tasks(x.len(), out, |first, out| {
        by_rows(x, d_in, weights, update, first, out)
    })
}

/// Elements of `x` in whole numbers.
trait Chunk: Clone + Default + Sync {
    /// False if a number is out of range.
    fn round(x: &[f32], to: &mut [Self]) -> bool;

    fn dots<const R: usize>(
        numbers: &Sixteen,
        packed: &[u8],
        scales: &[f32],
        x: [&[Self]; R],
    ) -> [f32; R];
}

impl Chunk for WholeChunk {
    fn round(x: &[f32], to: &mut [Self]) -> bool {
        simd::to_whole(x, to)
    }

    #[inline(always)]
    fn dots<const R: usize>(
        numbers: &Sixteen,
        packed: &[u8],
        scales: &[f32],
        x: [&[Self]; R],
    ) -> [f32; R] {
        numbers.dots(packed, scales, x)
    }
}

impl Chunk for ShortChunk {
    fn round(x: &[f32], to: &mut [Self]) -> bool {
        simd::to_short(x, to)
    }

    #[inline(always)]
    fn dots<const R: usize>(
        numbers: &Sixteen,
        packed: &[u8],
        scales: &[f32],
        x: [&[Self]; R],
    ) -> [f32; R] {
        numbers.short_dots(packed, scales, x)
    }
}

/// The product in whole numbers; false, with nothing done, if some of `x` is out of range.
fn whole<C: Chunk>(
    x: &[f32],
    weights: &FourBit,
    update: Option<&Update<'_>>,
    out: &mut ArrayRef2<f32>,
) -> Result<bool, QuantError> {
    let seq = out.nrows();
    let mut whole = zeros::<C>(x.len() / CHUNK)?;
    if !C::round(x, &mut whole) {
        return Ok(false);
    }
    let mut rows = whole.chunks_exact(whole.len() / seq);
    let mut next = || rows.next().unwrap_or(&[]);
    let [a, b, c, d] = [next(), next(), next(), next()];
    match seq {
        1 => in_tasks(x.len(), out, |first, out| {
            by_chunks([a], weights, update, first, out)
        }),
        2 => in_tasks(x.len(), out, |first, out| {
            by_chunks([a, b], weights, update, first, out)
        }),
        3 => in_tasks(x.len(), out, |first, out| {
            by_chunks([a, b, c], weights, update, first, out)
        }),
        _ => in_tasks(x.len(), out, |first, out| {
            by_chunks([a, b, c, d], weights, update, first, out)
        }),
    }?;
    Ok(true)
}

/// Cuts the result into tasks of some columns, by the shapes alone. Each gets the number of its first column.
fn in_tasks(
    size: usize,
    out: &mut ArrayRef2<f32>,
    work: impl Fn(usize, ArrayViewMut2<'_, f32>) -> Result<(), QuantError> + Sync + Send,
) -> Result<(), QuantError> {
    let n_rows = (TASK / size).clamp(8, out.ncols().max(8));
    let tasks: Vec<_> = out
        .axis_chunks_iter_mut(Axis(1), n_rows)
        .enumerate()
        .collect();
    let results = threads::map(tasks, |(task, out)| work(task * n_rows, out));
    results.into_iter().collect()
}

/// Rows of weights that are whole chunks, each with one scale.
fn by_chunks<C: Chunk, const R: usize>(
    x: [&[C]; R],
    weights: &FourBit,
    update: Option<&Update<'_>>,
    first: usize,
    mut out: ArrayViewMut2<'_, f32>,
) -> Result<(), QuantError> {
    let numbers = &weights.code().table().numbers;
    let d_in = x.first().map_or(0, |row| row.len()) * CHUNK;
    let block = weights.block();
    let mut scales = zeros::<f32>(d_in / CHUNK)?;
    // Those of the blocks that a row touches; it may begin and end inside of one.
    let mut of_blocks = zeros::<f32>(d_in / block + 2)?;
    simd::vectorize(
        #[inline(always)]
        || {
            for (j, mut out) in out.columns_mut().into_iter().enumerate() {
                let start = (first + j) * d_in;
                if block == CHUNK {
                    weights.scales().fill(start / CHUNK, &mut scales);
                } else {
                    let (first, end) = (start / block, (start + d_in).div_ceil(block));
                    weights.scales().fill(first, &mut of_blocks[..end - first]);
                    for (chunk, scale) in scales.iter_mut().enumerate() {
                        *scale = of_blocks[(start + CHUNK * chunk) / block - first];
                    }
                }
                // With all that follows: the next rows can be asked for.
                let products = C::dots(numbers, &weights.packed()[start / 2..], &scales, x);
                for (t, (out, product)) in out.iter_mut().zip(products).enumerate() {
                    *out = match update {
                        Some(update) => product + update.at(t, first + j),
                        None => product,
                    };
                }
            }
        },
    );
    Ok(())
}

/// One row of weights after the other, unpacked and used at once.
fn by_rows(
    x: &[f32],
    d_in: usize,
    weights: &FourBit,
    update: Option<&Update<'_>>,
    first: usize,
    mut out: ArrayViewMut2<'_, f32>,
) -> Result<(), QuantError> {
    let mut row = zeros::<f32>(d_in)?;
    for (j, mut out) in out.columns_mut().into_iter().enumerate() {
        simd::vectorize(
            #[inline(always)]
            || {
                decode_run(weights, (first + j) * d_in, &mut row);
                for (t, (out, x)) in out.iter_mut().zip(x.chunks_exact(d_in)).enumerate() {
                    let [[product]] = simd::dots([&*row], [x]);
                    *out = match update {
                        Some(update) => product + update.at(t, first + j),
                        None => product,
                    };
                }
            },
        );
    }
    Ok(())
}
