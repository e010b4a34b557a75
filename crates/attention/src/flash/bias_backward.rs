//! The gradient of a bias: the gradients of the scores, summed over the axes along which it counts for all.

use std::ops::Range;

use ndarray::{Array1, ArrayRef4, ArrayViewMut2, s};

use super::pieces::runs;
use super::plan::Plan;
use super::score_gradients::{Buffers, Of, Tile};
use super::tile_backward::{Saved, inner_products};
use llm_numerics::{Float, simd, threads};

/// A part of the gradient that no other task adds to, and the scores that belong to it.
struct Item<'a, F> {
    batches: Range<usize>,
    heads: Range<usize>,
    queries: Range<usize>,
    keys: Range<usize>,
    /// An axis of length 1 gets the sum.
    dbias: ArrayViewMut2<'a, F>,
}

/// Overwrites `dbias`, whose axes are 1 or as long as those of the scores.
pub(crate) fn run<F: Float>(
    plan: &Plan<'_, F>,
    saved: &Saved<'_, F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    dbias: &mut ArrayRef4<F>,
) {
    dbias.fill(F::zero());
    if [plan.batch, plan.n_heads, plan.seq, plan.kv_seq].contains(&0) {
        return;
    }
    let (in_batches, in_heads, in_queries, in_keys) = dbias.dim();
    let mut items = Vec::new();
    for (b, dbias) in dbias.outer_iter_mut().enumerate() {
        for (h, dbias) in dbias.into_outer_iter_mut().enumerate() {
            let rows = runs(dbias, plan.query_tile);
            for (row, dbias) in rows.into_iter().enumerate() {
                let columns = runs(dbias.reversed_axes(), plan.key_tile);
                for (column, dbias) in columns.into_iter().enumerate() {
                    let dbias = dbias.reversed_axes();
                    let first = row * plan.query_tile;
                    let queries = share(first..first + dbias.nrows(), in_queries, plan.seq);
                    let first = column * plan.key_tile;
                    let keys = share(first..first + dbias.ncols(), in_keys, plan.kv_seq);
                    items.push(Item {
                        batches: share(b..b + 1, in_batches, plan.batch),
                        heads: share(h..h + 1, in_heads, plan.n_heads),
                        queries,
                        keys,
                        dbias,
                    });
                }
            }
        }
    }
    let work = |item: Item<'_, F>, buffers: &mut Buffers<F>| {
        gather(plan, saved, [q, k, v], item, buffers);
    };
    if plan.is_parallel() {
        threads::for_each(items, |item| work(item, &mut Buffers::new(plan)));
    } else {
        let mut buffers = Buffers::new(plan);
        items.into_iter().for_each(|item| work(item, &mut buffers));
    }
}

/// What counts for all if the axis has the length 1.
fn share(part: Range<usize>, length: usize, all: usize) -> Range<usize> {
    if length == 1 { 0..all } else { part }
}

fn gather<F: Float>(
    plan: &Plan<'_, F>,
    saved: &Saved<'_, F>,
    [q, k, v]: [&ArrayRef4<F>; 3],
    mut item: Item<'_, F>,
    buffers: &mut Buffers<F>,
) {
    let mut inner = Array1::zeros(plan.query_tile);
    for batch in item.batches {
        for head in item.heads.clone() {
            let kv_head = head / plan.queries_per_kv;
            for first in item.queries.clone().step_by(plan.query_tile) {
                let rows = first..item.queries.end.min(first + plan.query_tile);
                let dout = saved.dout.slice(s![batch, head, rows.clone(), ..]);
                let out = saved.out.slice(s![batch, head, rows.clone(), ..]);
                let mut inner = inner.slice_mut(s![..rows.len()]);
                simd::vectorize(
                    #[inline(always)]
                    || inner_products(&dout, &out, &mut inner),
                );
                // No query of the tile sees a key before these or after them.
                let visible = plan.visible(&rows);
                for start in item.keys.clone().step_by(plan.key_tile) {
                    let keys = start..item.keys.end.min(start + plan.key_tile);
                    let is_hidden = keys.end <= visible.start || visible.end <= keys.start;
                    if is_hidden || plan.hides_all([batch, head], &rows, &keys) {
                        continue;
                    }
                    let tile = Tile {
                        batch,
                        head,
                        first,
                        keys: keys.clone(),
                        q: q.slice(s![batch, head, rows.clone(), ..]),
                        k: k.slice(s![batch, kv_head, keys.clone(), ..]),
                        v: v.slice(s![batch, kv_head, keys.clone(), ..]),
                        dout,
                        lse: saved.lse.slice(s![batch, head, rows.clone()]),
                        inner: inner.view(),
                    };
                    let computed = buffers.compute(plan, &tile, Of::Scores);
                    add(&mut item.dbias, computed.dscores);
                }
            }
        }
    }
}

/// Adds a tile, summed along the axes where the gradient has the length 1.
fn add<F: Float>(dbias: &mut ArrayViewMut2<'_, F>, tile: ArrayViewMut2<'_, F>) {
    let is_one_column = dbias.ncols() == 1;
    let is_one_row = dbias.nrows() == 1;
    for (i, row) in tile.outer_iter().enumerate() {
        let mut dbias = dbias.row_mut(if is_one_row { 0 } else { i });
        if is_one_column {
            dbias[0] += simd::sum(row.as_slice().unwrap_or_default());
        } else {
            dbias += &row;
        }
    }
}
