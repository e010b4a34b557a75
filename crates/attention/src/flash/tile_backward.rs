//! The backward pass: tiles of keys outside, tiles of queries inside.

use std::ops::Range;

use ndarray::{
    Array2, ArrayRef3, ArrayRef4, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3,
    s,
};

use super::pieces::{runs, within};
use super::plan::{Plan, is_finite, product};
use llm_numerics::{Float, simd, threads};

/// What the forward pass left, and the gradient of its output.
pub(super) struct Saved<'a, F> {
    pub(super) dout: &'a ArrayRef4<F>,
    pub(super) out: &'a ArrayRef4<F>,
    pub(super) lse: &'a ArrayRef3<F>,
}

/// One key-value head with the query heads that share it: no other task adds to these.
struct Item<'a, F> {
    batch: usize,
    kv_head: usize,
    dq: ArrayViewMut3<'a, F>, // [queries_per_kv, seq, head_dim]
    dk: ArrayViewMut2<'a, F>, // [kv_seq, head_dim]
    dv: ArrayViewMut2<'a, F>, // [kv_seq, value_dim]
}

/// The inputs of one item.
struct Group<'a, F> {
    q: ArrayView3<'a, F>,    // [queries_per_kv, seq, head_dim]
    k: ArrayView2<'a, F>,    // [kv_seq, head_dim]
    v: ArrayView2<'a, F>,    // [kv_seq, value_dim]
    out: ArrayView3<'a, F>,  // [queries_per_kv, seq, value_dim]
    dout: ArrayView3<'a, F>, // [queries_per_kv, seq, value_dim]
    lse: ArrayView2<'a, F>,  // [queries_per_kv, seq]
}

/// What a task needs besides its item; used again for the next item.
struct Scratch<F> {
    weights: Array2<F>, // [query_tile, key_tile], p
    grads: Array2<F>,   // [query_tile, key_tile], dp and then ds
    inner: Array2<F>,   // [queries_per_kv, seq], <dout_i, out_i>
}

impl<F: Float> Scratch<F> {
    fn new(plan: &Plan<F>) -> Self {
        Self {
            weights: Array2::zeros((plan.query_tile, plan.key_tile)),
            grads: Array2::zeros((plan.query_tile, plan.key_tile)),
            inner: Array2::zeros((plan.queries_per_kv, plan.seq)),
        }
    }
}

pub(super) fn run<F: Float>(
    plan: &Plan<F>,
    saved: &Saved<'_, F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    [dq, dk, dv]: [&mut ArrayRef4<F>; 3],
) {
    dq.fill(F::zero());
    dk.fill(F::zero());
    dv.fill(F::zero());
    if plan.n_heads == 0 || plan.seq == 0 {
        return;
    }
    let dq = dq.view_mut().into_outer_iter_mut();
    let dq = dq.flat_map(|batch| runs(batch, plan.queries_per_kv));
    let dk = dk.view_mut().into_outer_iter_mut();
    let dk = dk.flat_map(|batch| batch.into_outer_iter_mut());
    let dv = dv.view_mut().into_outer_iter_mut();
    let dv = dv.flat_map(|batch| batch.into_outer_iter_mut());
    let items: Vec<_> = dq
        .zip(dk.zip(dv))
        .enumerate()
        .map(|(index, (dq, (dk, dv)))| Item {
            batch: index / plan.n_kv_heads,
            kv_head: index % plan.n_kv_heads,
            dq,
            dk,
            dv,
        })
        .collect();
    let work = |item: Item<'_, F>, scratch: &mut Scratch<F>| {
        let (b, first) = (item.batch, item.kv_head * plan.queries_per_kv);
        let heads = first..first + plan.queries_per_kv;
        let inputs = Group {
            q: q.slice(s![b, heads.clone(), .., ..]),
            k: k.slice(s![b, item.kv_head, .., ..]),
            v: v.slice(s![b, item.kv_head, .., ..]),
            out: saved.out.slice(s![b, heads.clone(), .., ..]),
            dout: saved.dout.slice(s![b, heads.clone(), .., ..]),
            lse: saved.lse.slice(s![b, heads, ..]),
        };
        group(plan, &inputs, item, scratch);
    };
    if plan.is_parallel() {
        threads::for_each(items, |item| work(item, &mut Scratch::new(plan)));
    } else {
        let mut scratch = Scratch::new(plan);
        items.into_iter().for_each(|item| work(item, &mut scratch));
    }
}

/// Algorithm 2 of FlashAttention-2 for one key-value head.
fn group<F: Float>(
    plan: &Plan<F>,
    inputs: &Group<'_, F>,
    mut item: Item<'_, F>,
    scratch: &mut Scratch<F>,
) {
    simd::vectorize(
        #[inline(always)]
        || inner_products(&inputs.dout, &inputs.out, &mut scratch.inner),
    );
    for start in (0..plan.kv_seq).step_by(plan.key_tile) {
        let keys = start..plan.kv_seq.min(start + plan.key_tile);
        let k = inputs.k.slice(s![keys.clone(), ..]);
        let v = inputs.v.slice(s![keys.clone(), ..]);
        let mut dk = item.dk.slice_mut(s![keys.clone(), ..]);
        let mut dv = item.dv.slice_mut(s![keys.clone(), ..]);
        // Other queries see no key of the tile.
        let queries = plan.queries(&keys);
        for head in 0..plan.queries_per_kv {
            for first in queries.clone().step_by(plan.query_tile) {
                let rows = first..queries.end.min(first + plan.query_tile);
                let q = inputs.q.slice(s![head, rows.clone(), ..]);
                let dout = inputs.dout.slice(s![head, rows.clone(), ..]);
                let mut dq = item.dq.slice_mut(s![head, rows.clone(), ..]);
                let tile = s![..rows.len(), ..keys.len()];
                let mut p = scratch.weights.slice_mut(tile);
                let mut ds = scratch.grads.slice_mut(tile);
                product(plan.scale, &q, &k.t(), F::zero(), &mut p);
                product(F::one(), &dout, &v.t(), F::zero(), &mut ds);
                let seen = |i: usize| within(plan.keys(first + i), &keys);
                simd::vectorize(
                    #[inline(always)]
                    || {
                        let lse = inputs.lse.slice(s![head, rows.clone()]);
                        let inner = scratch.inner.slice(s![head, rows.clone()]);
                        score_gradients(plan.softcap, [&mut p, &mut ds], lse, inner, seen);
                    },
                );
                if plan.hides_some(&rows, &keys)
                    && !(is_finite(&q) && is_finite(&k) && is_finite(&dout))
                {
                    // Zero times NaN would be NaN: leave the hidden pairs out.
                    for i in 0..rows.len() {
                        for j in seen(i) {
                            let ds = plan.scale * ds[[i, j]];
                            dq.row_mut(i).scaled_add(ds, &k.row(j));
                            dk.row_mut(j).scaled_add(ds, &q.row(i));
                            dv.row_mut(j).scaled_add(p[[i, j]], &dout.row(i));
                        }
                    }
                    continue;
                }
                product(plan.scale, &ds, &k, F::one(), &mut dq);
                product(plan.scale, &ds.t(), &q, F::one(), &mut dk);
                product(F::one(), &p.t(), &dout, F::one(), &mut dv);
            }
        }
    }
}

/// `<dout_i, out_i>` for every query of the group.
#[inline(always)]
fn inner_products<F: Float>(
    dout: &ArrayView3<'_, F>,
    out: &ArrayView3<'_, F>,
    inner: &mut Array2<F>,
) {
    let heads = dout.outer_iter().zip(out.outer_iter());
    for ((dout, out), mut inner) in heads.zip(inner.outer_iter_mut()) {
        let rows = dout.outer_iter().zip(out.outer_iter());
        for ((dout, out), inner) in rows.zip(inner.iter_mut()) {
            *inner = match (dout.as_slice(), out.as_slice()) {
                (Some(dout), Some(out)) => simd::dot(dout, out),
                _ => dout.iter().zip(out).map(|(&x, &y)| x * y).sum(),
            };
        }
    }
}

/// Scores become weights `e^(s - lse)`, and `dp` becomes `ds = p (dp - inner)`; zero where hidden.
///
/// With a softcap the scores are bent first, and `ds` gets the slope `1 - (s / softcap)^2`.
#[inline(always)]
fn score_gradients<F: Float>(
    softcap: Option<F>,
    [p, ds]: [&mut ArrayViewMut2<'_, F>; 2],
    lse: ArrayView1<'_, F>,
    inner: ArrayView1<'_, F>,
    seen: impl Fn(usize) -> Range<usize>,
) {
    let rows = p.outer_iter_mut().zip(ds.outer_iter_mut());
    for (i, ((mut p, mut ds), (&lse, &inner))) in rows.zip(lse.iter().zip(inner.iter())).enumerate()
    {
        // A row of scores that are all -inf has no weights, as if nothing were seen.
        let seen = if lse == F::neg_infinity() {
            0..0
        } else {
            seen(i)
        };
        let p = only(p.as_slice_mut().unwrap_or_default(), seen.clone());
        let ds = only(ds.as_slice_mut().unwrap_or_default(), seen);
        match softcap {
            None => {
                for (p, ds) in p.iter_mut().zip(ds) {
                    *p = (*p - lse).fast_exp();
                    *ds = *p * (*ds - inner);
                }
            }
            Some(softcap) => {
                for (p, ds) in p.iter_mut().zip(ds) {
                    let bent = (*p / softcap).tanh();
                    *p = (softcap * bent - lse).fast_exp();
                    *ds = *p * (*ds - inner) * (F::one() - bent * bent);
                }
            }
        }
    }
}

/// A part of a row; the rest of it becomes zero.
#[inline(always)]
fn only<F: Float>(row: &mut [F], part: Range<usize>) -> &mut [F] {
    row[part.end..].fill(F::zero());
    row[..part.start].fill(F::zero());
    &mut row[part]
}
