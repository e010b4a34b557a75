//! The forward pass of a single query (decoding): one pass over the keys and values.

use ndarray::{
    ArrayRef3, ArrayRef4, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, s,
};

use super::pieces::runs;
use super::plan::{Plan, bend};
use super::tile::{log_sum_exp, online_softmax};
use llm_numerics::{Float, simd, threads};

/// The query heads that share one key-value head, and where their results go.
struct Item<'a, F> {
    batch: usize,
    kv_head: usize,
    out: ArrayViewMut2<'a, F>,         // [queries_per_kv, value_dim]
    lse: Option<ArrayViewMut1<'a, F>>, // [queries_per_kv]
}

pub(super) fn run<F: Float>(
    plan: &Plan<'_, F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    out: &mut ArrayRef4<F>,
    lse: Option<&mut ArrayRef3<F>>,
) {
    // Without values and log-sum-exp there is nothing to write, however many heads there are.
    if plan.n_heads == 0 || (plan.value_dim == 0 && lse.is_none()) {
        return;
    }
    // Drop the axis of the one query.
    let q = q.index_axis(Axis(2), 0);
    let out = out.index_axis_mut(Axis(2), 0);
    let lse = lse.map(|lse| lse.index_axis_mut(Axis(2), 0));
    let out = out.into_outer_iter_mut();
    let out = out.flat_map(|batch| runs(batch, plan.queries_per_kv));
    let mut lse = lse
        .into_iter()
        .flat_map(|lse| lse.into_outer_iter_mut())
        .flat_map(|batch| runs(batch, plan.queries_per_kv));
    let items: Vec<_> = out
        .enumerate()
        .map(|(index, out)| Item {
            batch: index / plan.n_kv_heads,
            kv_head: index % plan.n_kv_heads,
            out,
            lse: lse.next(),
        })
        .collect();
    let work = |item: Item<'_, F>| {
        let first = item.kv_head * plan.queries_per_kv;
        let heads = first..first + plan.queries_per_kv;
        let q = q.slice(s![item.batch, heads, ..]);
        let k = k.slice(s![item.batch, item.kv_head, .., ..]);
        let v = v.slice(s![item.batch, item.kv_head, .., ..]);
        simd::vectorize(
            #[inline(always)]
            || group(plan, q, k, v, item),
        );
    };
    if plan.is_parallel() {
        threads::for_each(items, work);
    } else {
        items.into_iter().for_each(work);
    }
}

#[inline(always)]
fn group<F: Float>(
    plan: &Plan<'_, F>,
    q: ArrayView2<'_, F>, // [queries_per_kv, head_dim]
    k: ArrayView2<'_, F>, // [kv_seq, head_dim]
    v: ArrayView2<'_, F>, // [kv_seq, value_dim]
    mut item: Item<'_, F>,
) {
    let n_queries = q.nrows();
    let (head_dim, value_dim, key_tile) = (plan.head_dim, plan.value_dim, plan.key_tile);
    let queries: Vec<F> = q.iter().copied().collect();
    let mut accumulator = vec![F::zero(); n_queries * value_dim];
    let mut scores = vec![F::zero(); n_queries * key_tile];
    let mut max = vec![F::neg_infinity(); n_queries];
    let mut total = vec![F::zero(); n_queries];
    let mut buffer = vec![F::zero(); head_dim.max(value_dim)];
    let visible = plan.keys(0);
    let first_head = item.kv_head * plan.queries_per_kv;
    let is_hidden = |query, key| plan.hides([item.batch, first_head + query, 0], key);
    for start in visible.clone().step_by(key_tile) {
        let keys = start..visible.end.min(start + key_tile);
        for (j, k) in k.slice(s![keys.clone(), ..]).outer_iter().enumerate() {
            let k = contiguous(&k, &mut buffer);
            for query in 0..n_queries {
                let q = &queries[query * head_dim..(query + 1) * head_dim];
                scores[query * key_tile + j] = plan.scale * simd::dot(q, k);
            }
        }
        for query in 0..n_queries {
            let scores = &mut scores[query * key_tile..][..keys.len()];
            if let Some(softcap) = plan.softcap {
                bend(scores, softcap);
            }
            let row = [item.batch, first_head + query, 0];
            if let Some(mods) = &plan.mods {
                mods.add(row, keys.clone(), scores);
            }
            let (max, total) = (&mut max[query], &mut total[query]);
            let rescale = online_softmax(scores, 0..keys.len(), max, total);
            if start > visible.start && rescale != F::one() {
                for x in &mut accumulator[query * value_dim..(query + 1) * value_dim] {
                    *x *= rescale;
                }
            }
            if let Some(mods) = &plan.mods {
                mods.drop(row, keys.clone(), scores);
            }
        }
        for (j, v) in v.slice(s![keys.clone(), ..]).outer_iter().enumerate() {
            let v = contiguous(&v, &mut buffer);
            for query in 0..n_queries {
                let weight = scores[query * key_tile + j];
                if weight == F::zero() && is_hidden(query, keys.start + j) {
                    continue; // zero times NaN would be NaN
                }
                let row = &mut accumulator[query * value_dim..(query + 1) * value_dim];
                for (x, &v) in row.iter_mut().zip(v) {
                    *x += weight * v;
                }
            }
        }
    }
    for (query, mut out) in item.out.outer_iter_mut().enumerate() {
        let row = &accumulator[query * value_dim..(query + 1) * value_dim];
        let inverse = if total[query] == F::zero() {
            F::zero() // nothing seen: the row is zero too
        } else {
            F::one() / total[query]
        };
        out.iter_mut().zip(row).for_each(|(y, &x)| *y = x * inverse);
    }
    if let Some(mut lse) = item.lse.take() {
        for (lse, (&max, &total)) in lse.iter_mut().zip(max.iter().zip(&total)) {
            *lse = log_sum_exp(max, total);
        }
    }
}

/// The row as a slice, copied if its elements do not lie side by side.
#[inline(always)]
fn contiguous<'a, F: Float>(row: &ArrayView1<'a, F>, buffer: &'a mut [F]) -> &'a [F] {
    if let Some(row) = row.to_slice() {
        return row;
    }
    let buffer = &mut buffer[..row.len()];
    buffer.iter_mut().zip(row).for_each(|(y, &x)| *y = x);
    buffer
}
