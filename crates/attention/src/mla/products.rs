//! The checked sizes of latent attention, and its products, head by head.

use ndarray::{Array2, Array4, ArrayRef2, ArrayRef4, ArrayView2, ArrayViewMut2, Axis, s};

use crate::flash::{check, zeros};
use crate::{AttentionConfig, AttentionError, memory};
use llm_numerics::{Float, gemm, threads};

/// Multiply-adds from which on threads are woken.
const PARALLEL: usize = 1 << 20;

/// The sizes of a call.
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) n_heads: usize,
    pub(super) seq: usize,
    kv_seq: usize,
    pub(super) nope_dim: usize,
    rotary_dim: usize,
    pub(super) value_dim: usize,
    pub(super) latent_dim: usize,
}

impl Sizes {
    pub(super) fn new<F>(
        q: &ArrayRef4<F>,
        kv_latent: &ArrayRef4<F>,
        k_rope: &ArrayRef4<F>,
        kv_b_proj: &ArrayRef2<F>,
    ) -> Result<Self, AttentionError> {
        let (batch, _, _, head_dim) = q.dim();
        let (_, _, kv_seq, latent_dim) = kv_latent.dim();
        let rotary_dim = k_rope.dim().3;
        check("kv_latent", [batch, 1, kv_seq, latent_dim], kv_latent)?;
        check("k_rope", [batch, 1, kv_seq, rotary_dim], k_rope)?;
        let nope_dim = head_dim
            .checked_sub(rotary_dim)
            .ok_or(AttentionError::RotaryDim {
                rotary_dim,
                head_dim,
            })?;
        let sizes = Self::of_queries(q, kv_b_proj, nope_dim)?;
        sizes.check_latent(latent_dim)?;
        Ok(Self { kv_seq, ..sizes })
    }

    /// The sizes that queries (or results) and the projection have; no keys.
    pub(super) fn of_queries<F>(
        q: &ArrayRef4<F>,
        kv_b_proj: &ArrayRef2<F>,
        nope_dim: usize,
    ) -> Result<Self, AttentionError> {
        let (batch, n_heads, seq, head_dim) = q.dim();
        let (rows, latent_dim) = kv_b_proj.dim();
        let of_head = rows.checked_div(n_heads).unwrap_or(0);
        if of_head * n_heads != rows {
            return Err(AttentionError::HeadRows { rows, n_heads });
        }
        let value_dim = match of_head.checked_sub(nope_dim) {
            Some(value_dim) => value_dim,
            None if n_heads == 0 => 0,
            None => {
                return Err(AttentionError::NopeRows {
                    rows: of_head,
                    nope_dim,
                });
            }
        };
        Ok(Self {
            batch,
            n_heads,
            seq,
            kv_seq: 0,
            nope_dim,
            rotary_dim: head_dim.saturating_sub(nope_dim),
            value_dim,
            latent_dim,
        })
    }

    pub(super) fn check_latent(&self, latent_dim: usize) -> Result<(), AttentionError> {
        if self.latent_dim == latent_dim {
            return Ok(());
        }
        Err(AttentionError::LatentDim {
            latent_dim,
            got: self.latent_dim,
        })
    }

    /// The rows of `kv_b_proj` that make the keys of a head: `[nope_dim, latent_dim]`.
    pub(super) fn keys<'a, F>(&self, kv_b_proj: &'a ArrayRef2<F>, h: usize) -> ArrayView2<'a, F> {
        let first = h * (self.nope_dim + self.value_dim);
        kv_b_proj.slice(s![first..first + self.nope_dim, ..])
    }

    /// The rows of `kv_b_proj` that make the values of a head: `[value_dim, latent_dim]`.
    pub(super) fn values<'a, F>(&self, kv_b_proj: &'a ArrayRef2<F>, h: usize) -> ArrayView2<'a, F> {
        let first = h * (self.nope_dim + self.value_dim) + self.nope_dim;
        kv_b_proj.slice(s![first..first + self.value_dim, ..])
    }

    /// The settings for attention to the latents, whose default scale is not that of the queries.
    pub(super) fn scaled(&self, config: &AttentionConfig) -> AttentionConfig {
        let head_dim = (self.nope_dim + self.rotary_dim).max(1);
        let scale = config.scale.unwrap_or(1.0 / (head_dim as f64).sqrt());
        config.with_scale(scale)
    }

    /// Multiply-adds of a product of each query with `dim` features and the latent.
    pub(super) fn work(&self, dim: usize) -> usize {
        let each = dim.saturating_mul(self.latent_dim);
        self.rows(self.seq).saturating_mul(each)
    }

    /// `length` for each batch row and head.
    fn rows(&self, length: usize) -> usize {
        let heads = self.batch.saturating_mul(self.n_heads);
        heads.saturating_mul(length)
    }

    /// The keys `[K_h c_j, r_j]` and values `V_h c_j` of all heads.
    pub(super) fn expand<F: Float>(
        &self,
        kv_latent: &ArrayRef4<F>,
        k_rope: &ArrayRef4<F>,
        kv_b_proj: &ArrayRef2<F>,
    ) -> Result<(Array4<F>, Array4<F>), AttentionError> {
        let &Self {
            batch,
            n_heads,
            kv_seq,
            nope_dim,
            rotary_dim,
            value_dim,
            ..
        } = self;
        let mut k = zeros([batch, n_heads, kv_seq, nope_dim + rotary_dim])?;
        let mut v = zeros([batch, n_heads, kv_seq, value_dim])?;
        let work = self.rows(kv_seq).saturating_mul(self.latent_dim);
        heads(&mut k, work.saturating_mul(nope_dim), |b, h, mut k| {
            let (mut nope, mut rotated) = k.view_mut().split_at(Axis(1), nope_dim);
            let latent = kv_latent.slice(s![b, 0, .., ..]);
            add(&latent, &self.keys(kv_b_proj, h).t(), &mut nope);
            rotated.assign(&k_rope.slice(s![b, 0, .., ..]));
        });
        heads(&mut v, work.saturating_mul(value_dim), |b, h, mut v| {
            let latent = kv_latent.slice(s![b, 0, .., ..]);
            add(&latent, &self.values(kv_b_proj, h).t(), &mut v);
        });
        Ok((k, v))
    }

    /// `[c_j, r_j]`: the one key of all heads.
    pub(super) fn join<F: Float>(
        &self,
        kv_latent: &ArrayRef4<F>,
        k_rope: &ArrayRef4<F>,
    ) -> Result<Array4<F>, AttentionError> {
        let width = self.latent_dim.saturating_add(self.rotary_dim);
        let mut k = zeros([self.batch, 1, self.kv_seq, width])?;
        let (mut latent, mut rotated) = k.view_mut().split_at(Axis(3), self.latent_dim);
        latent.assign(kv_latent);
        rotated.assign(k_rope);
        Ok(k)
    }

    /// `[K_h^T q_hi.nope, q_hi.rotated]`.
    pub(super) fn absorb<F: Float>(
        &self,
        q: &ArrayRef4<F>,
        kv_b_proj: &ArrayRef2<F>,
    ) -> Result<Array4<F>, AttentionError> {
        let width = self.latent_dim.saturating_add(self.rotary_dim);
        let mut absorbed = zeros([self.batch, self.n_heads, self.seq, width])?;
        heads(&mut absorbed, self.work(self.nope_dim), |b, h, mut out| {
            let (mut latent, mut rotated) = out.view_mut().split_at(Axis(1), self.latent_dim);
            let q = q.slice(s![b, h, .., ..]);
            let (q_nope, q_rotated) = q.split_at(Axis(1), self.nope_dim);
            add(&q_nope, &self.keys(kv_b_proj, h), &mut latent);
            rotated.assign(&q_rotated);
        });
        Ok(absorbed)
    }

    /// `V_h out_hi`.
    pub(super) fn project<F: Float>(
        &self,
        over_latents: &ArrayRef4<F>,
        kv_b_proj: &ArrayRef2<F>,
    ) -> Result<Array4<F>, AttentionError> {
        let mut out = zeros([self.batch, self.n_heads, self.seq, self.value_dim])?;
        heads(&mut out, self.work(self.value_dim), |b, h, mut out| {
            let over = over_latents.slice(s![b, h, .., ..]);
            add(&over, &self.values(kv_b_proj, h).t(), &mut out);
        });
        Ok(out)
    }

    /// Adds `K_h^T dk_hj + V_h^T dv_hj` of all heads to the latents' gradient, heads in order.
    pub(super) fn add_to_latents<F: Float>(
        &self,
        dk_nope: &ArrayRef4<F>,
        dv: &ArrayRef4<F>,
        kv_b_proj: &ArrayRef2<F>,
        dkv_latent: &mut ArrayRef4<F>,
    ) {
        let of_head = self
            .latent_dim
            .saturating_mul(self.nope_dim + self.value_dim);
        let work = self.rows(self.kv_seq).saturating_mul(of_head);
        heads(dkv_latent, work, |b, _, mut out| {
            for h in 0..self.n_heads {
                let (dk, dv) = (dk_nope.slice(s![b, h, .., ..]), dv.slice(s![b, h, .., ..]));
                add(&dk, &self.keys(kv_b_proj, h), &mut out);
                add(&dv, &self.values(kv_b_proj, h), &mut out);
            }
        });
    }

    /// Zeros shaped as `kv_b_proj`.
    pub(super) fn weight<F: Float>(&self) -> Result<Array2<F>, AttentionError> {
        let rows = self.n_heads * (self.nope_dim + self.value_dim); // as many as came in
        memory::fits::<F>([1, 1, rows, self.latent_dim])?;
        Ok(Array2::zeros((rows, self.latent_dim)))
    }

    /// `sum_i a_hi b_hi^T` over batch rows and tokens, for the key rows and the value rows of
    /// each head. An array of one head counts for all.
    pub(super) fn add_to_weight<F: Float>(
        &self,
        dkv_b_proj: &mut Array2<F>,
        of_keys: [&ArrayRef4<F>; 2],
        of_values: [&ArrayRef4<F>; 2],
    ) {
        let of_head = self.nope_dim + self.value_dim;
        if dkv_b_proj.is_empty() {
            return;
        }
        let tokens = of_keys[0].dim().2;
        let each = of_head.saturating_mul(self.latent_dim);
        let is_parallel = self.rows(tokens).saturating_mul(each) >= PARALLEL;
        let items = dkv_b_proj.axis_chunks_iter_mut(Axis(0), of_head);
        let items: Vec<_> = items.enumerate().collect();
        let work = |(h, rows): (usize, ArrayViewMut2<'_, F>)| {
            let (keys, values) = rows.split_at(Axis(0), self.nope_dim);
            for ([a, b], mut out) in [(of_keys, keys), (of_values, values)] {
                let head = |x: &ArrayRef4<F>| h.min(x.dim().1 - 1);
                for row in 0..self.batch {
                    let a = a.slice(s![row, head(a), .., ..]);
                    let b = b.slice(s![row, head(b), .., ..]);
                    add(&a.t(), &b, &mut out);
                }
            }
        };
        if is_parallel {
            threads::for_each(items, work);
        } else {
            items.into_iter().for_each(work);
        }
    }
}

/// `out += a b`, of shapes that were checked.
pub(super) fn add<F: Float>(a: &ArrayRef2<F>, b: &ArrayRef2<F>, out: &mut ArrayRef2<F>) {
    let done = gemm::general_matmul(F::one(), a, b, F::one(), out);
    debug_assert!(done.is_ok(), "{done:?}");
}

/// Calls `run(batch, head, rows)` with each head of `out`; on threads if the work is worth it.
pub(super) fn heads<F: Float>(
    out: &mut ArrayRef4<F>,
    work: usize,
    run: impl Fn(usize, usize, ArrayViewMut2<'_, F>) + Sync + Send,
) {
    if out.is_empty() {
        return; // however many heads of nothing there are
    }
    let n_heads = out.dim().1;
    let items = out.outer_iter_mut().flat_map(|x| x.into_outer_iter_mut());
    let items: Vec<_> = items.enumerate().collect();
    let run = |(index, out)| run(index / n_heads, index % n_heads, out);
    if work >= PARALLEL {
        threads::for_each(items, run);
    } else {
        items.into_iter().for_each(run);
    }
}
