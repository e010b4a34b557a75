//! The forward pass, one tile of queries at a time.

use std::ops::Range;

use ndarray::{
    Array2, ArrayRef3, ArrayRef4, ArrayView2, ArrayViewMut1, ArrayViewMut2, ArrayViewMut3,
    ArrayViewMut4, s,
};

use super::mods::Row;
use super::pieces::{runs, within};
use super::plan::{Plan, bend, is_finite, product};
use llm_numerics::{Float, simd, threads};

/// One tile of queries, and where its results go.
struct Item<'a, F> {
    batch: usize,
    head: usize,
    /// The first query.
    first: usize,
    out: ArrayViewMut2<'a, F>,         // [rows, value_dim]
    lse: Option<ArrayViewMut1<'a, F>>, // [rows]
}

/// What a task needs besides its item, and what a tile of queries has gathered; used again for the
/// next item.
pub(crate) struct Scratch<F> {
    /// Whether no tile of keys has been added yet.
    is_first: bool,
    scores: Array2<F>,      // [query_tile, key_tile]
    accumulator: Array2<F>, // [query_tile, value_dim]
    max: Vec<F>,            // [query_tile]
    total: Vec<F>,          // [query_tile]
}

impl<F: Float> Scratch<F> {
    pub(crate) fn new(plan: &Plan<'_, F>) -> Self {
        Self {
            is_first: true,
            scores: Array2::zeros((plan.query_tile, plan.key_tile)),
            accumulator: Array2::zeros((plan.query_tile, plan.value_dim)),
            max: vec![F::zero(); plan.query_tile],
            total: vec![F::zero(); plan.query_tile],
        }
    }
}

pub(super) fn run<F: Float>(
    plan: &Plan<'_, F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    out: &mut ArrayRef4<F>,
    lse: Option<&mut ArrayRef3<F>>,
) {
    if out.is_empty() && lse.as_ref().is_none_or(|lse| lse.is_empty()) {
        return; // however many heads there are
    }
    let items = items(plan, out.view_mut(), lse.map(|lse| lse.view_mut()));
    let work = |item: Item<'_, F>, scratch: &mut Scratch<F>| {
        let rows = item.first..item.first + item.out.nrows();
        let kv_head = item.head / plan.queries_per_kv;
        let q = q.slice(s![item.batch, item.head, rows, ..]);
        let k = k.slice(s![item.batch, kv_head, .., ..]);
        let v = v.slice(s![item.batch, kv_head, .., ..]);
        query_tile(plan, q, k, v, item, scratch);
    };
    if plan.is_parallel() {
        threads::for_each(items, |item| work(item, &mut Scratch::new(plan)));
    } else if !items.is_empty() {
        let mut scratch = Scratch::new(plan);
        items.into_iter().for_each(|item| work(item, &mut scratch));
    }
}

/// Cuts the results into tiles, batch by batch, head by head.
fn items<'a, F: Float>(
    plan: &Plan<'_, F>,
    out: ArrayViewMut4<'a, F>,
    lse: Option<ArrayViewMut3<'a, F>>,
) -> Vec<Item<'a, F>> {
    let out = out
        .into_outer_iter_mut()
        .flat_map(|batch| batch.into_outer_iter_mut());
    let mut lse = lse
        .into_iter()
        .flat_map(|lse| lse.into_outer_iter_mut())
        .flat_map(|batch| batch.into_outer_iter_mut());
    let mut items = Vec::new();
    for (index, out) in out.enumerate() {
        let mut lse = lse.next().map(|lse| runs(lse, plan.query_tile).into_iter());
        for (tile, out) in runs(out, plan.query_tile).into_iter().enumerate() {
            items.push(Item {
                batch: index / plan.n_heads,
                head: index % plan.n_heads,
                first: tile * plan.query_tile,
                out,
                lse: lse.as_mut().and_then(Iterator::next),
            });
        }
    }
    items
}

/// Algorithm 1 of FlashAttention-2 for one tile of queries.
fn query_tile<F: Float>(
    plan: &Plan<'_, F>,
    q: ArrayView2<'_, F>, // [rows, head_dim]
    k: ArrayView2<'_, F>, // [kv_seq, head_dim]
    v: ArrayView2<'_, F>, // [kv_seq, value_dim]
    item: Item<'_, F>,
    scratch: &mut Scratch<F>,
) {
    begin(q.nrows(), scratch);
    let queries = item.first..item.first + q.nrows();
    let keys = plan.visible(&queries);
    let k = k.slice(s![keys.clone(), ..]);
    let v = v.slice(s![keys.clone(), ..]);
    let first = [item.batch, item.head, item.first];
    advance(plan, q, first, k, v, keys, scratch);
    finish(item.out, item.lse, scratch);
}

/// Forgets what other queries have gathered.
pub(crate) fn begin<F: Float>(rows: usize, scratch: &mut Scratch<F>) {
    scratch.is_first = true;
    scratch.max[..rows].fill(F::neg_infinity());
    scratch.total[..rows].fill(F::zero());
}

/// Adds some of the keys that the queries from `first` on see, tile by tile.
pub(crate) fn advance<F: Float>(
    plan: &Plan<'_, F>,
    q: ArrayView2<'_, F>, // [rows, head_dim]
    [b, h, first]: Row,
    all_k: ArrayView2<'_, F>, // [visible, head_dim]
    all_v: ArrayView2<'_, F>, // [visible, value_dim]
    visible: Range<usize>,
    scratch: &mut Scratch<F>,
) {
    let rows = q.nrows();
    let mut accumulator = scratch.accumulator.slice_mut(s![..rows, ..]);
    let max = &mut scratch.max[..rows];
    let total = &mut scratch.total[..rows];
    let queries = first..first + rows;
    for start in visible.clone().step_by(plan.key_tile) {
        let keys = start..visible.end.min(start + plan.key_tile);
        if plan.hides_all([b, h], &queries, &keys) {
            continue;
        }
        let is_first = scratch.is_first;
        let here = start - visible.start..keys.end - visible.start;
        let k = all_k.slice(s![here.clone(), ..]);
        let v = all_v.slice(s![here, ..]);
        let mut scores = scratch.scores.slice_mut(s![..rows, ..keys.len()]);
        product(plan.scale, &q, &k.t(), F::zero(), &mut scores);
        let seen = |row: usize| within(plan.keys(first + row), &keys);
        simd::vectorize(
            #[inline(always)]
            || {
                for (i, mut scores) in scores.outer_iter_mut().enumerate() {
                    let scores = scores.as_slice_mut().unwrap_or_default();
                    let seen = seen(i);
                    if let Some(softcap) = plan.softcap {
                        bend(&mut scores[seen.clone()], softcap);
                    }
                    let row = [b, h, first + i];
                    let seen_keys = start + seen.start..start + seen.end;
                    if let Some(mods) = &plan.mods {
                        mods.add(row, seen_keys.clone(), &mut scores[seen.clone()]);
                    }
                    let (max, total) = (&mut max[i], &mut total[i]);
                    let rescale = online_softmax(scores, seen.clone(), max, total);
                    if let Some(mods) = &plan.mods {
                        mods.drop(row, seen_keys, &mut scores[seen]);
                    }
                    if !is_first && rescale != F::one() {
                        let mut row = accumulator.row_mut(i);
                        for x in row.as_slice_mut().unwrap_or_default() {
                            *x *= rescale;
                        }
                    }
                }
            },
        );
        let beta = if is_first { F::zero() } else { F::one() };
        if plan.hides_some(&queries, &keys) && !is_finite(&v) {
            // Zero weight times NaN would be NaN: leave the hidden keys out.
            accumulator.mapv_inplace(|x| if beta == F::zero() { beta } else { x });
            for (i, (mut row, scores)) in (accumulator.outer_iter_mut())
                .zip(scores.outer_iter())
                .enumerate()
            {
                for j in seen(i).filter(|&j| !plan.hides([b, h, queries.start + i], start + j)) {
                    row.scaled_add(scores[j], &v.row(j));
                }
            }
        } else {
            product(F::one(), &scores, &v, beta, &mut accumulator);
        }
        scratch.is_first = false;
    }
}

/// Divides by the sums of the weights.
pub(crate) fn finish<F: Float>(
    mut out: ArrayViewMut2<'_, F>,     // [rows, value_dim]
    lse: Option<ArrayViewMut1<'_, F>>, // [rows]
    scratch: &Scratch<F>,
) {
    let (max, total) = (&scratch.max, &scratch.total);
    for (i, mut out) in out.outer_iter_mut().enumerate() {
        if scratch.is_first || total[i] == F::zero() {
            out.fill(F::zero());
            continue;
        }
        let inverse = F::one() / total[i];
        let row = scratch.accumulator.row(i);
        out.iter_mut().zip(row).for_each(|(y, &x)| *y = x * inverse);
    }
    if let Some(mut lse) = lse {
        for (lse, (&max, &total)) in lse.iter_mut().zip(max.iter().zip(total)) {
            *lse = log_sum_exp(max, total);
        }
    }
}

// ANCHOR: online_softmax
/// Turns a row of scores into weights relative to the largest score so far.
///
/// The keys `seen` count, the others get weight 0. Returns the factor that
/// brings what was gathered before to the new maximum.
#[inline(always)]
pub(super) fn online_softmax<F: Float>(
    scores: &mut [F],
    seen: Range<usize>,
    max: &mut F,
    total: &mut F,
) -> F {
    scores[seen.end..].fill(F::zero());
    scores[..seen.start].fill(F::zero());
    let seen = &mut scores[seen];
    let largest = simd::max(seen);
    let new = if largest > *max { largest } else { *max };
    // Without any score above -inf the weights become e^-inf = 0, and NaN stays NaN.
    let shift = if new == F::neg_infinity() {
        F::zero()
    } else {
        new
    };
    for x in seen.iter_mut() {
        *x = (*x - shift).fast_exp();
    }
    let rescale = (*max - shift).fast_exp();
    *total = *total * rescale + simd::sum(seen);
    *max = new;
    rescale
}
// ANCHOR_END: online_softmax

/// `max + ln total`; `-inf` if nothing was seen.
pub(super) fn log_sum_exp<F: Float>(max: F, total: F) -> F {
    if total == F::zero() {
        F::neg_infinity()
    } else if max == F::neg_infinity() {
        total // NaN
    } else {
        max + total.ln()
    }
}
