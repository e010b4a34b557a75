//! The forward pass of a single query (decoding): one pass over the keys and values.
//!
//! A long cache is cut into pieces that several threads may work on, however few key-value heads
//! there are, and their partial results are merged. The cut depends only on which keys the query
//! sees: not on the threads, and not on the other sequences of the batch.

use std::ops::Range;

use ndarray::{ArrayRef3, ArrayRef4, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, s};

use super::few_queries::{Scores, add_values, buffer_length, score};
use super::pieces::runs;
use super::plan::{Plan, bend};
use super::rows::Rows;
use super::tile::{log_sum_exp, online_softmax};
use llm_numerics::{Float, simd, threads};

/// Keys of a piece, at least: enough to be worth a task.
const PIECE: usize = 512;

/// The query heads that share one key-value head, and where their results go.
pub(crate) struct Item<'a, F> {
    pub(crate) batch: usize,
    pub(crate) kv_head: usize,
    pub(crate) out: ArrayViewMut2<'a, F>, // [queries_per_kv, value_dim]
    pub(crate) lse: Option<ArrayViewMut1<'a, F>>, // [queries_per_kv]
}

/// What a piece of the keys adds up to, before the division by the sum of the weights.
struct Partial<F> {
    max: Vec<F>,         // [queries_per_kv]
    total: Vec<F>,       // [queries_per_kv]
    accumulator: Vec<F>, // [queries_per_kv, value_dim]
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
    let is_parallel = plan.is_parallel();
    let work = |item: Item<'_, F>| {
        let first = item.kv_head * plan.queries_per_kv;
        let heads = first..first + plan.queries_per_kv;
        let q = q.slice(s![item.batch, heads, ..]);
        let k = k.slice(s![item.batch, item.kv_head, .., ..]);
        let v = v.slice(s![item.batch, item.kv_head, .., ..]);
        group(plan, q, &k, &v, item, is_parallel);
    };
    if is_parallel {
        threads::for_each(items, work);
    } else {
        items.into_iter().for_each(work);
    }
}

/// The query heads of one key-value head over all the keys that they see.
pub(crate) fn group<F: Float>(
    plan: &Plan<'_, F>,
    q: ArrayView2<'_, F>,      // [queries_per_kv, head_dim]
    k: &(impl Rows<F> + Sync), // [kv_seq, head_dim]
    v: &(impl Rows<F> + Sync), // [kv_seq, value_dim]
    item: Item<'_, F>,
    is_parallel: bool,
) {
    let head = [item.batch, item.kv_head];
    let attend = |piece: Range<usize>| {
        simd::vectorize(
            #[inline(always)]
            || partial(plan, head, q, k, v, piece),
        )
    };
    let pieces = pieces(plan);
    let partials = if is_parallel {
        threads::map(pieces, attend)
    } else {
        pieces.into_iter().map(attend).collect()
    };
    if let Some(whole) = partials.into_iter().reduce(merge) {
        finish(&whole, item);
    }
}

/// The keys that the query sees, cut at borders of tiles. At least one piece.
///
/// A piece has as many keys as there are queries, or more, so that partial results take no more
/// room than the values.
fn pieces<F: Float>(plan: &Plan<'_, F>) -> Vec<Range<usize>> {
    let visible = plan.keys(0);
    let least = PIECE.max(plan.queries_per_kv);
    let length = least.checked_next_multiple_of(plan.key_tile);
    let length = length.unwrap_or(usize::MAX);
    if visible.len() <= length {
        return vec![visible];
    }
    let starts = visible.clone().step_by(length);
    let end = |start: usize| visible.end.min(start.saturating_add(length));
    starts.map(|start| start..end(start)).collect()
}

#[inline(always)]
fn partial<F: Float>(
    plan: &Plan<'_, F>,
    [batch, kv_head]: [usize; 2],
    q: ArrayView2<'_, F>,
    k: &impl Rows<F>,
    v: &impl Rows<F>,
    visible: Range<usize>,
) -> Partial<F> {
    let n_queries = q.nrows();
    let (value_dim, key_tile) = (plan.value_dim, plan.key_tile);
    let queries = q.as_standard_layout();
    let queries: Vec<_> = queries.outer_iter().filter_map(|q| q.to_slice()).collect();
    let mut accumulator = vec![F::zero(); n_queries * value_dim];
    let mut scores = vec![F::zero(); n_queries * key_tile];
    let mut scores = Scores {
        all: &mut scores,
        stride: key_tile,
    };
    let mut max = vec![F::neg_infinity(); n_queries];
    let mut total = vec![F::zero(); n_queries];
    let mut buffer = vec![F::zero(); buffer_length(plan.head_dim.max(value_dim))];
    let first_head = kv_head * plan.queries_per_kv;
    let is_hidden = (plan.may_hide())
        .then_some(|query: usize, key: usize| plan.hides([batch, first_head + query, 0], key));
    for start in visible.clone().step_by(key_tile) {
        let keys = start..visible.end.min(start + key_tile);
        let end = visible.end;
        score(&queries, k, keys.clone(), end, &mut buffer, &mut scores);
        for query in 0..n_queries {
            let scores = &mut scores.all[query * key_tile..][..keys.len()];
            scores.iter_mut().for_each(|score| *score *= plan.scale);
            if let Some(softcap) = plan.softcap {
                bend(scores, softcap);
            }
            let row = [batch, first_head + query, 0];
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
        add_values(
            &mut accumulator,
            v,
            keys,
            end,
            &mut buffer,
            &scores,
            is_hidden,
        );
    }
    Partial {
        max,
        total,
        accumulator,
    }
}

/// Two pieces as one: what [`merge`](crate::merge) does, without a division for each piece.
fn merge<F: Float>(mut a: Partial<F>, b: Partial<F>) -> Partial<F> {
    let value_dim = a.accumulator.len().checked_div(a.max.len()).unwrap_or(0);
    for query in 0..a.max.len() {
        let (max_a, max_b) = (a.max[query], b.max[query]);
        let max = if max_b > max_a { max_b } else { max_a };
        // Pieces without any score above -inf weigh e^-inf = 0.
        let shift = if max == F::neg_infinity() {
            F::zero()
        } else {
            max
        };
        let (weight_a, weight_b) = ((max_a - shift).fast_exp(), (max_b - shift).fast_exp());
        let row = query * value_dim..(query + 1) * value_dim;
        for (x, &y) in a.accumulator[row.clone()]
            .iter_mut()
            .zip(&b.accumulator[row])
        {
            *x = weight_a * *x + weight_b * y;
        }
        a.total[query] = weight_a * a.total[query] + weight_b * b.total[query];
        a.max[query] = max;
    }
    a
}

fn finish<F: Float>(whole: &Partial<F>, mut item: Item<'_, F>) {
    let Partial {
        max,
        total,
        accumulator,
    } = whole;
    let value_dim = item.out.ncols();
    for (query, mut out) in item.out.outer_iter_mut().enumerate() {
        if total[query] == F::zero() {
            out.fill(F::zero()); // nothing seen
            continue;
        }
        let row = &accumulator[query * value_dim..(query + 1) * value_dim];
        let inverse = F::one() / total[query];
        out.iter_mut().zip(row).for_each(|(y, &x)| *y = x * inverse);
    }
    if let Some(mut lse) = item.lse.take() {
        for (lse, (&max, &total)) in lse.iter_mut().zip(max.iter().zip(total)) {
            *lse = log_sum_exp(max, total);
        }
    }
}
