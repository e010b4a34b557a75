//! Latent attention as the paper writes it: keys and values of each head made from the latent.

use ndarray::{Array2, Array3, Array4, ArrayRef2, ArrayRef4, s};

use super::attention;
use crate::mla::Gradients;
use crate::{AttentionConfig, AttentionError};

/// `softmax(scale Q [C K_h^T, R]^T + mask) C V_h^T` for each head, and the log-sum-exp of its rows.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, nope_dim + rotary_dim]`
/// - `kv_latent`: `[batch, 1, kv_seq, latent_dim]`; `C` is one batch row of it
/// - `k_rope`: `[batch, 1, kv_seq, rotary_dim]`; `R` is one batch row of it
/// - `kv_b_proj`: `[n_heads * (nope_dim + value_dim), latent_dim]`, for each head `K_h`, then `V_h`
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// # Errors
///
/// As [`mla::forward_naive`](crate::mla::forward_naive), but tiles do not matter.
///
/// Source: DeepSeek-V2, arXiv:2405.04434v5, sections 2.1.2 and 2.1.3.
pub fn forward(
    q: &ArrayRef4<f64>,
    kv_latent: &ArrayRef4<f64>,
    k_rope: &ArrayRef4<f64>,
    kv_b_proj: &ArrayRef2<f64>,
    config: &AttentionConfig,
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    let weight = Weight::new(q, kv_latent, k_rope, kv_b_proj)?;
    let (k, v) = weight.expand(kv_latent, k_rope);
    attention::forward(q, &k, &v, config)
}

/// The gradients of [`forward`], by the chain rule on whole matrices.
///
/// # Shapes
///
/// - `dout`: `[batch, n_heads, seq, value_dim]`
/// - returns: arrays shaped as `q`, `kv_latent`, `k_rope` and `kv_b_proj`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` has another shape.
pub fn backward(
    dout: &ArrayRef4<f64>,
    q: &ArrayRef4<f64>,
    kv_latent: &ArrayRef4<f64>,
    k_rope: &ArrayRef4<f64>,
    kv_b_proj: &ArrayRef2<f64>,
    config: &AttentionConfig,
) -> Result<Gradients<f64>, AttentionError> {
    let weight = Weight::new(q, kv_latent, k_rope, kv_b_proj)?;
    let (k, v) = weight.expand(kv_latent, k_rope);
    let inner = attention::backward(dout, q, &k, &v, config)?;
    let nope = weight.nope_dim;
    let mut dkv_latent = Array4::zeros(kv_latent.dim());
    let mut dk_rope = Array4::zeros(k_rope.dim());
    let mut dweight = Array3::<f64>::zeros(weight.of_heads.dim());
    for b in 0..q.dim().0 {
        let latent = kv_latent.slice(s![b, 0, .., ..]);
        for h in 0..q.dim().1 {
            let dk = inner.dk.slice(s![b, h, .., ..nope]);
            let dv = inner.dv.slice(s![b, h, .., ..]);
            let (keys, values) = (
                weight.of_heads.slice(s![h, ..nope, ..]),
                weight.of_heads.slice(s![h, nope.., ..]),
            );
            let mut dlatent = dkv_latent.slice_mut(s![b, 0, .., ..]);
            dlatent += &(dk.dot(&keys) + dv.dot(&values));
            let mut rotated = dk_rope.slice_mut(s![b, 0, .., ..]);
            rotated += &inner.dk.slice(s![b, h, .., nope..]);
            let mut dkeys = dweight.slice_mut(s![h, ..nope, ..]);
            dkeys += &dk.t().dot(&latent);
            let mut dvalues = dweight.slice_mut(s![h, nope.., ..]);
            dvalues += &dv.t().dot(&latent);
        }
    }
    let mut dkv_b_proj = Array2::zeros(kv_b_proj.dim());
    for (to, from) in dkv_b_proj.iter_mut().zip(&dweight) {
        *to = *from; // both row by row
    }
    Ok(Gradients {
        dq: inner.dq,
        dkv_latent,
        dk_rope,
        dkv_b_proj,
    })
}

/// `kv_b_proj`, by heads.
struct Weight {
    of_heads: Array3<f64>, // [n_heads, nope_dim + value_dim, latent_dim]
    nope_dim: usize,
}

impl Weight {
    fn new(
        q: &ArrayRef4<f64>,
        kv_latent: &ArrayRef4<f64>,
        k_rope: &ArrayRef4<f64>,
        kv_b_proj: &ArrayRef2<f64>,
    ) -> Result<Self, AttentionError> {
        let (batch, n_heads, _, head_dim) = q.dim();
        let (rows, got) = kv_b_proj.dim();
        let (_, _, kv_seq, latent_dim) = kv_latent.dim();
        let rotary_dim = k_rope.dim().3;
        attention::expect_shape("kv_latent", [batch, 1, kv_seq, latent_dim], kv_latent)?;
        attention::expect_shape("k_rope", [batch, 1, kv_seq, rotary_dim], k_rope)?;
        if rotary_dim > head_dim {
            return Err(AttentionError::RotaryDim {
                rotary_dim,
                head_dim,
            });
        }
        let nope_dim = head_dim - rotary_dim;
        let of_head = rows.checked_div(n_heads).unwrap_or(0);
        if of_head * n_heads != rows {
            return Err(AttentionError::HeadRows { rows, n_heads });
        }
        if n_heads > 0 && of_head < nope_dim {
            return Err(AttentionError::NopeRows {
                rows: of_head,
                nope_dim,
            });
        }
        if got != latent_dim {
            return Err(AttentionError::LatentDim { latent_dim, got });
        }
        let of_heads = Array3::from_shape_fn((n_heads, of_head, latent_dim), |(h, r, c)| {
            kv_b_proj[[h * of_head + r, c]]
        });
        Ok(Self { of_heads, nope_dim })
    }

    /// Keys and values of all heads, one number after the other.
    fn expand(
        &self,
        kv_latent: &ArrayRef4<f64>,
        k_rope: &ArrayRef4<f64>,
    ) -> (Array4<f64>, Array4<f64>) {
        let (batch, _, kv_seq, _) = kv_latent.dim();
        let (n_heads, of_head, _) = self.of_heads.dim();
        let nope = self.nope_dim;
        let row = |b: usize, h: usize, j: usize, r: usize| {
            let latent = kv_latent.slice(s![b, 0, j, ..]);
            self.of_heads.slice(s![h, r, ..]).dot(&latent)
        };
        let width = nope + k_rope.dim().3;
        let k = Array4::from_shape_fn((batch, n_heads, kv_seq, width), |(b, h, j, d)| {
            if d < nope {
                row(b, h, j, d)
            } else {
                k_rope[[b, 0, j, d - nope]]
            }
        });
        let width = of_head.saturating_sub(nope);
        let v = Array4::from_shape_fn((batch, n_heads, kv_seq, width), |(b, h, j, d)| {
            row(b, h, j, nope + d)
        });
        (k, v)
    }
}
