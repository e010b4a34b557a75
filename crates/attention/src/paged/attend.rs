//! The sequences of a batch on threads: a single query as a decode step, more of them by tiles.

use ndarray::{ArrayRef3, ArrayView1, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, s};

use super::rows::{Copied, PageRows, Pages};
use super::{PageElement, PagedKv};
use crate::flash::tile::{self, Scratch};
use crate::flash::{Plan, decode};
use llm_numerics::{Float, threads};

/// The queries of one sequence, and where their results go.
pub(super) struct Sequence<'a, F> {
    pub(super) q: ArrayView3<'a, F>,      // [n_heads, seq, head_dim]
    pub(super) out: ArrayViewMut3<'a, F>, // [n_heads, seq, value_dim]
    pub(super) lse: Option<ArrayViewMut2<'a, F>>, // [n_heads, seq]
}

/// Some queries of the heads that share a key-value head, and where their results go.
struct Item<'a, F: 'static> {
    plan: &'a Plan<'static, F>,
    kv_head: usize,
    table: ArrayView1<'a, u32>, // [max_pages]
    /// The first query.
    first: usize,
    q: ArrayView3<'a, F>,              // [queries_per_kv, rows, head_dim]
    out: ArrayViewMut3<'a, F>,         // [queries_per_kv, rows, value_dim]
    lse: Option<ArrayViewMut2<'a, F>>, // [queries_per_kv, rows]
}

/// Works on all sequences. `plans` are for the lengths of each, with a batch of 1.
pub(super) fn attend<'a, F: Float, S: PageElement<F>>(
    kv: &'a PagedKv<'_, S>,
    plans: &'a [Plan<'static, F>],
    sequences: Vec<Sequence<'a, F>>,
) {
    let is_parallel = Plan::are_parallel(plans);
    let mut items = Vec::new();
    for ((row, plan), sequence) in plans.iter().enumerate().zip(sequences) {
        cut(plan, kv.block_table.row(row), sequence, &mut items);
    }
    let work = |item: Item<'a, F>| {
        let [k, v] = [kv.k_rows(&item), kv.v_rows(&item)];
        if item.plan.seq == 1 {
            single(item, &k, &v, is_parallel);
        } else {
            tiles(item, &k, &v);
        }
    };
    if is_parallel {
        threads::for_each(items, work);
    } else {
        items.into_iter().for_each(work);
    }
}

impl<S> PagedKv<'_, S> {
    fn k_rows<'a, F>(&'a self, item: &Item<'a, F>) -> PageRows<'a, S> {
        PageRows {
            pages: Pages::of_head(self.k.view(), item.kv_head),
            scales: (self.scales).map(|[k, _]| scales(k, item.kv_head)),
            table: item.table,
        }
    }

    fn v_rows<'a, F>(&'a self, item: &Item<'a, F>) -> PageRows<'a, S> {
        PageRows {
            pages: Pages::of_head(self.v.view(), item.kv_head),
            scales: (self.scales).map(|[_, v]| scales(v, item.kv_head)),
            table: item.table,
        }
    }
}

/// The scales `[n_pages, n_kv_heads, page_size]` of a head as pages with rows of one number.
fn scales(all: &ArrayRef3<f32>, kv_head: usize) -> Pages<'_, f32> {
    Pages::of_head(all.view().insert_axis(Axis(3)), kv_head)
}

/// Cuts a sequence by key-value heads, and its queries into tiles.
fn cut<'a, F: Float>(
    plan: &'a Plan<'static, F>,
    table: ArrayView1<'a, u32>,
    sequence: Sequence<'a, F>,
    items: &mut Vec<Item<'a, F>>,
) {
    let Sequence { q, out, lse } = sequence;
    // Without values and log-sum-exp there is nothing to write, however many heads there are.
    if plan.n_heads == 0 || plan.seq == 0 || (plan.value_dim == 0 && lse.is_none()) {
        return;
    }
    let group = plan.queries_per_kv;
    let out = out.into_axis_chunks_iter_mut(Axis(0), group);
    let mut lse = lse.map(|lse| lse.into_axis_chunks_iter_mut(Axis(0), group));
    for (kv_head, out) in out.enumerate() {
        let heads = kv_head * group..(kv_head + 1) * group;
        let lse = lse.as_mut().and_then(Iterator::next);
        let out = out.into_axis_chunks_iter_mut(Axis(1), plan.query_tile);
        let mut lse = lse.map(|lse| lse.into_axis_chunks_iter_mut(Axis(1), plan.query_tile));
        for (index, out) in out.enumerate() {
            let first = index * plan.query_tile;
            let queries = first..first + out.len_of(Axis(1));
            items.push(Item {
                plan,
                kv_head,
                table,
                first,
                q: q.slice_move(s![heads.clone(), queries, ..]),
                out,
                lse: lse.as_mut().and_then(Iterator::next),
            });
        }
    }
}

/// A single query of each head: keys and values are read once, where they are.
fn single<F: Float, S: PageElement<F>>(
    item: Item<'_, F>,
    k: &PageRows<'_, S>,
    v: &PageRows<'_, S>,
    is_parallel: bool,
) {
    let of_group = decode::Item {
        batch: 0,
        kv_head: item.kv_head,
        out: item.out.index_axis_move(Axis(1), 0),
        lse: item.lse.map(|lse| lse.index_axis_move(Axis(1), 0)),
    };
    let q = item.q.index_axis(Axis(1), 0);
    decode::group(item.plan, q, k, v, of_group, is_parallel);
}

/// Several queries of each head: a tile of keys and values is read once for all the heads.
fn tiles<F: Float, S: PageElement<F>>(
    mut item: Item<'_, F>,
    k: &PageRows<'_, S>,
    v: &PageRows<'_, S>,
) {
    let (plan, rows) = (item.plan, item.q.len_of(Axis(1)));
    let mut gathered: Vec<_> = item.q.outer_iter().map(|_| Scratch::new(plan)).collect();
    for scratch in &mut gathered {
        tile::begin(rows, scratch);
    }
    let mut k_copy = Copied::new(plan.key_tile, plan.head_dim);
    let mut v_copy = Copied::new(plan.key_tile, plan.value_dim);
    let visible = plan.visible(&(item.first..item.first + rows));
    for start in visible.clone().step_by(plan.key_tile) {
        let keys = start..visible.end.min(start + plan.key_tile);
        let k = k.tile(keys.clone(), &mut k_copy);
        let v = v.tile(keys.clone(), &mut v_copy);
        for (q, scratch) in item.q.outer_iter().zip(&mut gathered) {
            tile::advance(plan, q, [0, 0, item.first], k, v, keys.clone(), scratch);
        }
    }
    let mut lse = item.lse.as_mut().map(|lse| lse.outer_iter_mut());
    for (out, scratch) in item.out.outer_iter_mut().zip(&gathered) {
        tile::finish(out, lse.as_mut().and_then(Iterator::next), scratch);
    }
}
