//! The checked sizes of one call, and what the mask lets through.

use std::ops::Range;

use ndarray::{Array3, Array4, ArrayRef2, ArrayRef3, ArrayRef4};

use super::mods::{Mods, Row};
use crate::{AttentionConfig, AttentionError, CausalAlignment, Mask, ScoreMods, memory};
use llm_numerics::{Float, gemm, simd};

/// Work from which threads are worth waking, in multiply-adds.
const PARALLEL: usize = 1 << 20;

/// The sizes of one call, checked, and its settings.
pub(crate) struct Plan<'a, F> {
    pub(super) batch: usize,
    pub(crate) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(crate) queries_per_kv: usize,
    pub(crate) seq: usize,
    pub(super) kv_seq: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
    pub(super) scale: F,
    pub(super) softcap: Option<F>,
    /// At most `seq`, at least 1.
    pub(crate) query_tile: usize,
    /// At most `kv_seq`, at least 1.
    pub(crate) key_tile: usize,
    mask: Mask,
    /// `None` if nothing is modified.
    pub(super) mods: Option<Mods<'a, F>>,
}

impl<'a, F: Float> Plan<'a, F> {
    pub(crate) fn new(
        q: &ArrayRef4<F>,
        k: &ArrayRef4<F>,
        v: &ArrayRef4<F>,
        config: &AttentionConfig,
    ) -> Result<Self, AttentionError> {
        Self::with_mods(q, k, v, &ScoreMods::new(), config)
    }

    pub(crate) fn with_mods(
        q: &ArrayRef4<F>,
        k: &ArrayRef4<F>,
        v: &ArrayRef4<F>,
        mods: &ScoreMods<'a, F>,
        config: &AttentionConfig,
    ) -> Result<Self, AttentionError> {
        let (batch, n_heads, seq, head_dim) = q.dim();
        let (_, n_kv_heads, kv_seq, _) = k.dim();
        let value_dim = v.dim().3;
        check("k", [batch, n_kv_heads, kv_seq, head_dim], k)?;
        check("v", [batch, n_kv_heads, kv_seq, value_dim], v)?;
        let keys = [n_kv_heads, kv_seq, value_dim];
        let plan = Self::of_sizes([batch, n_heads, seq, head_dim], keys, config)?;
        let mods = Mods::new(mods, [batch, n_heads, seq, kv_seq])?;
        Ok(Self { mods, ..plan })
    }

    /// For the shape of the queries, and for so many heads, keys and features of values.
    pub(crate) fn of_sizes(
        [batch, n_heads, seq, head_dim]: [usize; 4],
        [n_kv_heads, kv_seq, value_dim]: [usize; 3],
        config: &AttentionConfig,
    ) -> Result<Self, AttentionError> {
        let queries_per_kv = n_heads.checked_div(n_kv_heads).unwrap_or(0);
        if queries_per_kv * n_kv_heads != n_heads {
            return Err(AttentionError::Heads {
                n_heads,
                n_kv_heads,
            });
        }
        let default = 1.0 / (head_dim.max(1) as f64).sqrt();
        let scale = config.scale.unwrap_or(default);
        if !F::from_f64(scale).is_finite() {
            return Err(AttentionError::Scale { got: scale });
        }
        if let Some(got) = config.softcap {
            let softcap = F::from_f64(got);
            if !(softcap.is_finite() && softcap > F::zero()) {
                return Err(AttentionError::Softcap { got });
            }
        }
        if let Mask::ChunkedCausal { chunk: 0, .. } = config.mask {
            return Err(AttentionError::Chunk);
        }
        let AttentionConfig {
            query_tile,
            key_tile,
            ..
        } = *config;
        if query_tile == 0 || key_tile == 0 {
            return Err(AttentionError::Tile {
                query_tile,
                key_tile,
            });
        }
        let query_tile = query_tile.min(seq.max(1));
        let key_tile = key_tile.min(kv_seq.max(1));
        let features = head_dim.max(value_dim).max(1);
        // Rows that repeat one need no memory, but are walked through. (Batch rows that do are a shared prefix.)
        memory::fits::<F>([1, 1, kv_seq, features])?;
        // What a tile or a decode step needs besides.
        memory::fits::<F>([1, 1, query_tile.max(queries_per_kv), key_tile])?;
        memory::fits::<F>([1, 1, query_tile.max(queries_per_kv), features])?;
        Ok(Self {
            batch,
            n_heads,
            n_kv_heads,
            queries_per_kv,
            seq,
            kv_seq,
            head_dim,
            value_dim,
            scale: F::from_f64(scale),
            softcap: config.softcap.map(F::from_f64),
            query_tile,
            key_tile,
            mask: config.mask,
            mods: None,
        })
    }

    pub(crate) fn out_shape(&self) -> [usize; 4] {
        [self.batch, self.n_heads, self.seq, self.value_dim]
    }

    pub(crate) fn lse_shape(&self) -> [usize; 3] {
        [self.batch, self.n_heads, self.seq]
    }

    /// The keys that query `i` sees. Neither end falls from a query to the next.
    #[inline(always)]
    pub(super) fn keys(&self, i: usize) -> Range<usize> {
        let (start, end) = match self.mask {
            Mask::Full => (0, self.kv_seq),
            Mask::Causal(alignment) => (0, self.end(i, 0, alignment)),
            Mask::Window {
                left,
                right,
                alignment,
            } => (
                left.map_or(0, |left| self.start(i, left, alignment)),
                right.map_or(self.kv_seq, |right| self.end(i, right, alignment)),
            ),
            Mask::ChunkedCausal { chunk, alignment } => {
                let end = self.end(i, 0, alignment);
                let position = self.start(i, 0, alignment);
                (position / chunk * chunk, end)
            }
            Mask::PrefixLm { prefix, alignment } => (0, prefix.max(self.end(i, 0, alignment))),
        };
        let end = end.min(self.kv_seq);
        start.min(end)..end
    }

    /// The keys that one of some queries, at least one, sees: none before these or after them.
    pub(crate) fn visible(&self, queries: &Range<usize>) -> Range<usize> {
        self.keys(queries.start).start..self.keys(queries.end - 1).end
    }

    /// The first key that is at most `left` before query `i`.
    #[inline(always)]
    fn start(&self, i: usize, left: usize, alignment: CausalAlignment) -> usize {
        match alignment {
            CausalAlignment::TopLeft => i.saturating_sub(left),
            CausalAlignment::BottomRight => {
                (i.saturating_add(self.kv_seq)).saturating_sub(left.saturating_add(self.seq))
            }
        }
    }

    /// The first key that is more than `right` after query `i`; `kv_seq` and more if there is none.
    #[inline(always)]
    fn end(&self, i: usize, right: usize, alignment: CausalAlignment) -> usize {
        let end = (i + 1).saturating_add(right);
        match alignment {
            CausalAlignment::TopLeft => end,
            CausalAlignment::BottomRight => {
                end.saturating_add(self.kv_seq).saturating_sub(self.seq)
            }
        }
    }

    /// The queries that see a key of a range.
    pub(super) fn queries(&self, keys: &Range<usize>) -> Range<usize> {
        let start = first(self.seq, |i| self.keys(i).end > keys.start);
        start..first(self.seq, |i| self.keys(i).start >= keys.end).max(start)
    }

    /// Whether one of the queries does not see one of the keys.
    pub(super) fn hides_some(&self, queries: &Range<usize>, keys: &Range<usize>) -> bool {
        let last = queries.end.saturating_sub(1);
        self.keys(queries.start).end < keys.end
            || self.keys(last).start > keys.start
            || self.may_hide()
    }

    /// Whether an array may hide keys that the mask of the config lets queries see.
    pub(super) fn may_hide(&self) -> bool {
        self.mods.as_ref().is_some_and(Mods::may_hide)
    }

    /// Whether an array hides a key from a query that the mask of the config lets see it.
    #[inline(always)]
    pub(super) fn hides(&self, row: Row, key: usize) -> bool {
        self.mods.as_ref().is_some_and(|mods| mods.hides(row, key))
    }

    /// Whether an array hides all of the keys from all of the queries of `[batch, head]`.
    pub(super) fn hides_all(
        &self,
        head: [usize; 2],
        queries: &Range<usize>,
        keys: &Range<usize>,
    ) -> bool {
        let mods = self.mods.as_ref();
        mods.is_some_and(|mods| mods.hides_all(head, queries.clone(), keys.clone()))
    }

    /// Whether the call is worth waking threads.
    pub(crate) fn is_parallel(&self) -> bool {
        self.work() >= PARALLEL
    }

    /// Whether calls are worth it together.
    pub(crate) fn are_parallel(plans: &[Self]) -> bool {
        plans.iter().map(Self::work).fold(0, usize::saturating_add) >= PARALLEL
    }

    /// Multiply-adds, were there no mask.
    fn work(&self) -> usize {
        [self.n_heads, self.seq, self.kv_seq]
            .into_iter()
            .chain([self.head_dim.saturating_add(self.value_dim)])
            .fold(self.batch, usize::saturating_mul)
    }
}

/// The first of `0..length` for which `is_so` holds; `length` if none. Once it holds it holds on.
fn first(length: usize, is_so: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_so(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// `cap tanh(s / cap)` of each score.
#[inline(always)]
pub(super) fn bend<F: Float>(scores: &mut [F], softcap: F) {
    for score in scores {
        *score = softcap * (*score / softcap).fast_tanh();
    }
}

/// Refuses an array of another shape.
pub(crate) fn check<F>(
    name: &'static str,
    expected: [usize; 4],
    array: &ArrayRef4<F>,
) -> Result<(), AttentionError> {
    let got = array.dim().into();
    if got == expected {
        Ok(())
    } else {
        Err(AttentionError::Shape {
            name,
            expected,
            got,
        })
    }
}

/// Refuses a log-sum-exp of another shape.
pub(crate) fn check_lse<F>(expected: [usize; 3], lse: &ArrayRef3<F>) -> Result<(), AttentionError> {
    let got = lse.dim().into();
    if got == expected {
        Ok(())
    } else {
        Err(AttentionError::LseShape { expected, got })
    }
}

/// An array of zeros, or an error if memory cannot hold it.
pub(crate) fn zeros<F: Float>(shape: [usize; 4]) -> Result<Array4<F>, AttentionError> {
    memory::fits::<F>(shape)?;
    Ok(Array4::zeros(shape))
}

/// A log-sum-exp of zeros, or an error if memory cannot hold it.
pub(crate) fn zeros_lse<F: Float>(shape: [usize; 3]) -> Result<Array3<F>, AttentionError> {
    let [batch, n_heads, seq] = shape;
    memory::fits::<F>([1, batch, n_heads, seq])?;
    Ok(Array3::zeros(shape))
}

/// `out = alpha a b + beta out`, of shapes that the plan has checked.
pub(super) fn product<F: Float>(
    alpha: F,
    a: &ArrayRef2<F>,
    b: &ArrayRef2<F>,
    beta: F,
    out: &mut ArrayRef2<F>,
) {
    let done = gemm::general_matmul(alpha, a, b, beta, out);
    debug_assert!(done.is_ok(), "{done:?}");
}

/// Whether no element is infinite or NaN.
pub(super) fn is_finite<F: Float>(x: &ArrayRef2<F>) -> bool {
    simd::vectorize(
        #[inline(always)]
        || {
            x.outer_iter().all(|row| match row.as_slice() {
                Some(row) => row.iter().fold(true, |all, x| all & x.is_finite()),
                None => row.iter().all(|x| x.is_finite()),
            })
        },
    )
}
