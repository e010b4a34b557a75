//! The two products of a decode step: a few queries with many keys, their weights with the values.
//!
//! Each row is read once and serves several queries while it is in registers.

use std::ops::Range;

use super::rows::Rows;
use llm_numerics::{Float, simd};

/// Queries that share a row in registers.
const QUERIES: usize = 4;
/// Keys that share the registers of these queries: twice four running sums.
const KEYS: usize = 2;
/// Values that are added to a sum while it is in a register.
const VALUES: usize = 4;

/// Rows that may have to be copied at the same time.
const MOST_ROWS: usize = if KEYS > VALUES { KEYS } else { VALUES };
/// Elements that are copied or widened together where there is room: 8 KiB of `f32`, which stay in the fastest cache.
const COPIED: usize = 2048;

/// How many elements the buffer for rows of so many features has.
pub(super) const fn buffer_length(features: usize) -> usize {
    let least = MOST_ROWS * features;
    if least > COPIED { least } else { COPIED }
}

/// A matrix of scores or weights: a row for each query, of which a part is used.
pub(super) struct Scores<'a, F> {
    pub(super) all: &'a mut [F], // [n_queries, stride]
    pub(super) stride: usize,
}

/// `scores[query, j] = <query, key j>` for the keys of a range; those up to `end` will be next.
#[inline(always)]
pub(super) fn score<F: Float>(
    queries: &[&[F]],
    k: &impl Rows<F>,
    keys: Range<usize>,
    end: usize,
    buffer: &mut [F],
    scores: &mut Scores<'_, F>,
) {
    let middle = keys.end - keys.len() % KEYS;
    k.for_each::<KEYS>(
        keys.start..middle,
        end,
        buffer,
        #[inline(always)]
        |j, rows| score_rows(queries, rows, j, scores),
    );
    k.for_each::<1>(
        middle..keys.end,
        keys.end,
        buffer,
        #[inline(always)]
        |j, rows| score_rows(queries, rows, middle - keys.start + j, scores),
    );
}

#[inline(always)]
fn score_rows<F: Float, const B: usize>(
    queries: &[&[F]],
    rows: [&[F]; B],
    j: usize,
    scores: &mut Scores<'_, F>,
) {
    let (blocks, rest) = queries.as_chunks::<QUERIES>();
    let mut put = |query: usize, products: [F; B]| {
        scores.all[query * scores.stride + j..][..B].copy_from_slice(&products);
    };
    for (block, queries) in blocks.iter().enumerate() {
        for (i, products) in simd::dots_fused(*queries, rows).into_iter().enumerate() {
            put(block * QUERIES + i, products);
        }
    }
    for (i, query) in rest.iter().enumerate() {
        let [products] = simd::dots_fused([*query], rows);
        put(blocks.len() * QUERIES + i, products);
    }
}

/// Adds the weighted values of a range to the sum of each query; those up to `end` will be next.
///
/// Without weight a key that `is_hidden` adds nothing, even if its value is NaN. `None`: no key is.
#[inline(always)]
pub(super) fn add_values<F: Float>(
    sums: &mut [F], // [n_queries, value_dim]
    v: &impl Rows<F>,
    keys: Range<usize>,
    end: usize,
    buffer: &mut [F],
    weights: &Scores<'_, F>,
    is_hidden: Option<impl Fn(usize, usize) -> bool>,
) {
    let n_queries = weights.all.len() / weights.stride;
    let value_dim = sums.len().checked_div(n_queries).unwrap_or(0);
    if value_dim == 0 {
        return;
    }
    if let Some(is_hidden) = is_hidden {
        v.for_each::<1>(
            keys.clone(),
            end,
            buffer,
            #[inline(always)]
            |j, rows| {
                for (query, sum) in sums.chunks_exact_mut(value_dim).enumerate() {
                    let weight = weights.all[query * weights.stride + j];
                    if !(weight == F::zero() && is_hidden(query, keys.start + j)) {
                        simd::add_weighted_fused(sum, [[weight]], rows);
                    }
                }
            },
        );
        return;
    }
    let middle = keys.end - keys.len() % VALUES;
    v.for_each::<VALUES>(
        keys.start..middle,
        end,
        buffer,
        #[inline(always)]
        |j, rows| add_rows(sums, value_dim, rows, j, weights),
    );
    v.for_each::<1>(
        middle..keys.end,
        keys.end,
        buffer,
        #[inline(always)]
        |j, rows| add_rows(sums, value_dim, rows, middle - keys.start + j, weights),
    );
}

#[inline(always)]
fn add_rows<F: Float, const B: usize>(
    sums: &mut [F],
    value_dim: usize,
    rows: [&[F]; B],
    j: usize,
    weights: &Scores<'_, F>,
) {
    let mut blocks = sums.chunks_exact_mut(QUERIES * value_dim);
    let mut query = 0;
    for sums in &mut blocks {
        let mut of_block = [[F::zero(); B]; QUERIES];
        for (i, of_query) in of_block.iter_mut().enumerate() {
            of_query.copy_from_slice(&weights.all[(query + i) * weights.stride + j..][..B]);
        }
        simd::add_weighted_fused(sums, of_block, rows);
        query += QUERIES;
    }
    for sum in blocks.into_remainder().chunks_exact_mut(value_dim) {
        let mut of_query = [F::zero(); B];
        of_query.copy_from_slice(&weights.all[query * weights.stride + j..][..B]);
        simd::add_weighted_fused(sum, [of_query], rows);
        query += 1;
    }
}
