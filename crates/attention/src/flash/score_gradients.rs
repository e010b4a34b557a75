//! The weights of a tile, computed anew, and the gradients of its scores.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, s};

use super::mods::{Mods, Row};
use super::pieces::within;
use super::plan::{Plan, product};
use llm_numerics::{Float, simd};

/// Some queries of a head, some keys, and what belongs to them.
pub(super) struct Tile<'a, F> {
    pub(super) batch: usize,
    pub(super) head: usize,
    /// The first query.
    pub(super) first: usize,
    pub(super) keys: Range<usize>,
    pub(super) q: ArrayView2<'a, F>,     // [rows, head_dim]
    pub(super) k: ArrayView2<'a, F>,     // [columns, head_dim]
    pub(super) v: ArrayView2<'a, F>,     // [columns, value_dim]
    pub(super) dout: ArrayView2<'a, F>,  // [rows, value_dim]
    pub(super) lse: ArrayView1<'a, F>,   // [rows]
    pub(super) inner: ArrayView1<'a, F>, // [rows], <dout_i, out_i>
}

/// Which scores the gradient is for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Of {
    /// Those that the softmax gets.
    Scores,
    /// The products of queries and keys times the scale.
    Products,
}

/// Arrays as large as a tile may be; used again for the next.
pub(super) struct Buffers<F> {
    weights: Array2<F>, // [query_tile, key_tile], p
    grads: Array2<F>,   // [query_tile, key_tile], dp and then ds
    slopes: Vec<F>,     // [key_tile], of the softcap
}

/// What is left in the buffers for a tile.
pub(super) struct Result<'a, F> {
    /// What the values were multiplied with.
    pub(super) weights: ArrayViewMut2<'a, F>,
    pub(super) dscores: ArrayViewMut2<'a, F>,
    /// The share of the tile in the gradient of the head's slope.
    pub(super) dslope: f64,
}

impl<F: Float> Buffers<F> {
    pub(super) fn new(plan: &Plan<'_, F>) -> Self {
        Self {
            weights: Array2::zeros((plan.query_tile, plan.key_tile)),
            grads: Array2::zeros((plan.query_tile, plan.key_tile)),
            slopes: vec![F::one(); plan.key_tile],
        }
    }

    /// `p = e^(s - lse)` and `ds = p (dp - inner)`; zero where hidden.
    pub(super) fn compute(
        &mut self,
        plan: &Plan<'_, F>,
        tile: &Tile<'_, F>,
        of: Of,
    ) -> Result<'_, F> {
        let shape = s![..tile.q.nrows(), ..tile.keys.len()];
        let mut p = self.weights.slice_mut(shape);
        let mut ds = self.grads.slice_mut(shape);
        product(plan.scale, &tile.q, &tile.k.t(), F::zero(), &mut p);
        product(F::one(), &tile.dout, &tile.v.t(), F::zero(), &mut ds);
        let mut dslope = 0.0;
        simd::vectorize(
            #[inline(always)]
            || {
                let rows = p.outer_iter_mut().zip(ds.outer_iter_mut());
                let saved = tile.lse.iter().zip(&tile.inner);
                for (i, ((mut p, mut ds), (&lse, &inner))) in rows.zip(saved).enumerate() {
                    // A row of scores that are all -inf has no weights, as if nothing were seen.
                    let seen = if lse == F::neg_infinity() {
                        0..0
                    } else {
                        within(plan.keys(tile.first + i), &tile.keys)
                    };
                    let p = only(p.as_slice_mut().unwrap_or_default(), seen.clone());
                    let ds = only(ds.as_slice_mut().unwrap_or_default(), seen.clone());
                    let Some(mods) = &plan.mods else {
                        gradients(plan.softcap, [p, ds], lse, inner);
                        continue;
                    };
                    let row = [tile.batch, tile.head, tile.first + i];
                    let keys = tile.keys.start + seen.start..tile.keys.start + seen.end;
                    let slopes = &mut self.slopes[..p.len()];
                    dslope +=
                        modified(mods, row, keys, plan.softcap, [p, ds], [lse, inner], slopes);
                    if of == Of::Products && plan.softcap.is_some() {
                        for (ds, &mut slope) in ds.iter_mut().zip(slopes) {
                            if *ds != F::zero() {
                                *ds *= slope; // NaN where a hidden product overflowed
                            }
                        }
                    }
                }
            },
        );
        Result {
            weights: p,
            dscores: ds,
            dslope,
        }
    }
}

/// A row whose scores are not modified. With a softcap they are bent first, and `ds` gets the slope
/// `1 - (s / softcap)^2`.
#[inline(always)]
fn gradients<F: Float>(softcap: Option<F>, [p, ds]: [&mut [F]; 2], lse: F, inner: F) {
    match softcap {
        None => {
            for (p, ds) in p.iter_mut().zip(ds) {
                *p = (*p - lse).fast_exp();
                *ds = *p * (*ds - inner);
            }
        }
        Some(softcap) => {
            for (p, ds) in p.iter_mut().zip(ds) {
                let bent = (*p / softcap).fast_tanh();
                *p = (softcap * bent - lse).fast_exp();
                *ds = *p * (*ds - inner) * (F::one() - bent * bent);
            }
        }
    }
}

/// A row whose scores are modified: `ds` is for the modified scores, `slopes` are those of the
/// softcap. Returns the share in the gradient of the head's slope.
#[inline(always)]
fn modified<F: Float>(
    mods: &Mods<'_, F>,
    row: Row,
    keys: Range<usize>,
    softcap: Option<F>,
    [p, ds]: [&mut [F]; 2],
    [lse, inner]: [F; 2],
    slopes: &mut [F],
) -> f64 {
    if let Some(softcap) = softcap {
        for (p, slope) in p.iter_mut().zip(slopes) {
            let bent = (*p / softcap).fast_tanh();
            *p = softcap * bent;
            *slope = F::one() - bent * bent;
        }
    }
    mods.add(row, keys.clone(), p);
    mods.drop(row, keys.clone(), ds);
    for (p, ds) in p.iter_mut().zip(ds.iter_mut()) {
        *p = (*p - lse).fast_exp();
        *ds = if *p == F::zero() {
            F::zero() // hidden, and the value may be NaN
        } else {
            *p * (*ds - inner)
        };
    }
    let dslope = if mods.has_alibi() {
        mods.dslope(row, keys.clone(), ds)
    } else {
        0.0
    };
    mods.drop(row, keys, p);
    dslope
}

/// A part of a row; the rest of it becomes zero.
#[inline(always)]
fn only<F: Float>(row: &mut [F], part: Range<usize>) -> &mut [F] {
    row[part.end..].fill(F::zero());
    row[..part.start].fill(F::zero());
    &mut row[part]
}
