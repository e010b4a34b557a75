//! The backward pass: tiles of keys outside, tiles of queries inside.

use ndarray::{
    Array2, ArrayRef3, ArrayRef4, ArrayView2, ArrayView3, ArrayViewMut1, ArrayViewMut2,
    ArrayViewMut3, s,
};

use super::pieces::{runs, within};
use super::plan::{Plan, is_finite, product};
use super::score_gradients::{Buffers, Of, Tile};
use llm_numerics::{Float, simd, threads};

/// What the forward pass left, and the gradient of its output.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a, F> {
    pub(crate) dout: &'a ArrayRef4<F>,
    pub(crate) out: &'a ArrayRef4<F>,
    pub(crate) lse: &'a ArrayRef3<F>,
}

/// One key-value head with the query heads that share it: no other task adds to these.
struct Item<'a, F> {
    batch: usize,
    kv_head: usize,
    dq: ArrayViewMut3<'a, F>, // [queries_per_kv, seq, head_dim]
    dk: ArrayViewMut2<'a, F>, // [kv_seq, head_dim]
    dv: ArrayViewMut2<'a, F>, // [kv_seq, value_dim]
    dslopes: &'a mut [f64],   // [queries_per_kv]
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
    buffers: Buffers<F>,
    inner: Array2<F>, // [queries_per_kv, seq], <dout_i, out_i>
}

impl<F: Float> Scratch<F> {
    fn new(plan: &Plan<'_, F>) -> Self {
        Self {
            buffers: Buffers::new(plan),
            inner: Array2::zeros((plan.queries_per_kv, plan.seq)),
        }
    }
}

/// Fills the gradients. Returns those of the slopes, one for each head of each batch row, or none at
/// all if there are no queries.
pub(crate) fn run<F: Float>(
    plan: &Plan<'_, F>,
    saved: &Saved<'_, F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    [dq, dk, dv]: [&mut ArrayRef4<F>; 3],
) -> Vec<f64> {
    dq.fill(F::zero());
    dk.fill(F::zero());
    dv.fill(F::zero());
    if plan.n_heads == 0 || plan.seq == 0 || (dq.is_empty() && dk.is_empty() && dv.is_empty()) {
        return Vec::new(); // without features the weights do not depend on anything
    }
    let mut all_dslopes = vec![0.0; plan.batch * plan.n_heads];
    let dq = dq.view_mut().into_outer_iter_mut();
    let dq = dq.flat_map(|batch| runs(batch, plan.queries_per_kv));
    let dk = dk.view_mut().into_outer_iter_mut();
    let dk = dk.flat_map(|batch| batch.into_outer_iter_mut());
    let dv = dv.view_mut().into_outer_iter_mut();
    let dv = dv.flat_map(|batch| batch.into_outer_iter_mut());
    let dslopes = all_dslopes.chunks_mut(plan.queries_per_kv);
    let items: Vec<_> = dq
        .zip(dk.zip(dv).zip(dslopes))
        .enumerate()
        .map(|(index, (dq, ((dk, dv), dslopes)))| Item {
            batch: index / plan.n_kv_heads,
            kv_head: index % plan.n_kv_heads,
            dq,
            dk,
            dv,
            dslopes,
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
    all_dslopes
}

/// Algorithm 2 of FlashAttention-2 for one key-value head.
fn group<F: Float>(
    plan: &Plan<'_, F>,
    inputs: &Group<'_, F>,
    mut item: Item<'_, F>,
    scratch: &mut Scratch<F>,
) {
    simd::vectorize(
        #[inline(always)]
        || {
            let heads = inputs.dout.outer_iter().zip(inputs.out.outer_iter());
            for ((dout, out), mut inner) in heads.zip(scratch.inner.outer_iter_mut()) {
                inner_products(&dout, &out, &mut inner);
            }
        },
    );
    for start in (0..plan.kv_seq).step_by(plan.key_tile) {
        let keys = start..plan.kv_seq.min(start + plan.key_tile);
        let k = inputs.k.slice(s![keys.clone(), ..]);
        let v = inputs.v.slice(s![keys.clone(), ..]);
        let mut dk = item.dk.slice_mut(s![keys.clone(), ..]);
        let mut dv = item.dv.slice_mut(s![keys.clone(), ..]);
        // Other queries see no key of the tile.
        let queries = plan.queries(&keys);
        for in_group in 0..plan.queries_per_kv {
            let head = item.kv_head * plan.queries_per_kv + in_group;
            for first in queries.clone().step_by(plan.query_tile) {
                let rows = first..queries.end.min(first + plan.query_tile);
                if plan.hides_all([item.batch, head], &rows, &keys) {
                    continue;
                }
                let q = inputs.q.slice(s![in_group, rows.clone(), ..]);
                let dout = inputs.dout.slice(s![in_group, rows.clone(), ..]);
                let mut dq = item.dq.slice_mut(s![in_group, rows.clone(), ..]);
                let tile = Tile {
                    batch: item.batch,
                    head,
                    first,
                    keys: keys.clone(),
                    q,
                    k,
                    v,
                    dout,
                    lse: inputs.lse.slice(s![in_group, rows.clone()]),
                    inner: scratch.inner.slice(s![in_group, rows.clone()]),
                };
                let computed = scratch.buffers.compute(plan, &tile, Of::Products);
                let (p, ds) = (computed.weights, computed.dscores);
                item.dslopes[in_group] += computed.dslope;
                if plan.hides_some(&rows, &keys)
                    && !(is_finite(&q) && is_finite(&k) && is_finite(&dout))
                {
                    // Zero times NaN would be NaN: leave the hidden pairs out.
                    for (i, row) in rows.enumerate() {
                        let seen = within(plan.keys(row), &keys);
                        for j in seen.filter(|j| !plan.hides([item.batch, head, row], start + j)) {
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

/// `<dout_i, out_i>` for some queries.
#[inline(always)]
pub(super) fn inner_products<F: Float>(
    dout: &ArrayView2<'_, F>,
    out: &ArrayView2<'_, F>,
    inner: &mut ArrayViewMut1<'_, F>,
) {
    let rows = dout.outer_iter().zip(out.outer_iter());
    for ((dout, out), inner) in rows.zip(inner.iter_mut()) {
        *inner = match (dout.as_slice(), out.as_slice()) {
            (Some(dout), Some(out)) => simd::dot(dout, out),
            _ => dout.iter().zip(out).map(|(&x, &y)| x * y).sum(),
        };
    }
}
