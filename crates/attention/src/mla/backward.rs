//! The gradients of latent attention, in both forms.

use ndarray::{Array2, Array4, ArrayRef2, ArrayRef3, ArrayRef4, s};

use super::products::{self, Sizes, heads};
use crate::flash::{check, check_lse, zeros};
use crate::{AttentionConfig, AttentionError, flash};
use llm_numerics::Float;

/// The gradients of [`backward_naive`] and [`backward_absorbed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For the queries: `[batch, n_heads, seq, nope_dim + rotary_dim]`.
    pub dq: Array4<F>,
    /// For the latents: `[batch, 1, kv_seq, latent_dim]`.
    pub dkv_latent: Array4<F>,
    /// For the rotated keys: `[batch, 1, kv_seq, rotary_dim]`.
    pub dk_rope: Array4<F>,
    /// For the projection: `[n_heads * (nope_dim + value_dim), latent_dim]`.
    pub dkv_b_proj: Array2<F>,
}

/// The gradients of either forward, by the naive form: for training.
///
/// Writes out the keys and values of all heads anew, and as many gradients, then
///
/// ```text
/// dc_j = sum_h K_h^T dk_hj.nope + V_h^T dv_hj,   dr_j = sum_h dk_hj.rotated
/// dK_h = sum_j dk_hj.nope c_j^T,                 dV_h = sum_j dv_hj c_j^T
/// ```
///
/// so beside [`flash::backward`] it costs three times what writing out costs, and
/// `2 n_heads (nope_dim + rotary_dim + value_dim)` numbers for each key.
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`; `lse`: `[batch, n_heads, seq]`,
///   both from [`forward_naive`](super::forward_naive) or [`forward_absorbed`](super::forward_absorbed) with the same arrays and config
/// - the others as in [`forward_naive`](super::forward_naive)
/// - returns: arrays shaped as `q`, `kv_latent`, `k_rope` and `kv_b_proj`
///
/// # Errors
///
/// As [`forward_naive`](super::forward_naive); also [`AttentionError::Shape`] and [`AttentionError::LseShape`] if
/// `dout`, `out` or `lse` does not have the shape above.
///
/// # Precision
///
/// Sums in `F`, in an order that does not depend on the number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, mla};
/// use ndarray::{Array2, Array4};
///
/// // One head, one key: the weight is 1, and the value is 3 times the latent.
/// let one = Array4::<f64>::ones((1, 1, 1, 1));
/// let kv_b_proj = Array2::from_elem((2, 1), 3.0); // nope_dim 1, value_dim 1
/// let q = Array4::ones((1, 1, 1, 2));
/// let config = AttentionConfig::new(Mask::Full);
/// let (out, lse) = mla::forward_naive(&q, &one, &one, &kv_b_proj, &config)?;
/// let got = mla::backward_naive(&one, &q, &one, &one, &kv_b_proj, &out, &lse, &config)?;
/// assert_eq!(got.dkv_latent[[0, 0, 0, 0]], 3.0);
/// assert_eq!(got.dkv_b_proj, ndarray::array![[0.0], [1.0]]); // keys do not matter
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: the derivative of the formula of [`forward_naive`](super::forward_naive).
#[allow(
    clippy::too_many_arguments,
    reason = "seven arrays and a config are what the gradient needs"
)]
pub fn backward_naive<F: Float>(
    dout: &ArrayRef4<F>,
    q: &ArrayRef4<F>,
    kv_latent: &ArrayRef4<F>,
    k_rope: &ArrayRef4<F>,
    kv_b_proj: &ArrayRef2<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    config: &AttentionConfig,
) -> Result<Gradients<F>, AttentionError> {
    let sizes = Sizes::new(q, kv_latent, k_rope, kv_b_proj)?;
    check_saved(&sizes, dout, out, lse)?;
    let (k, v) = sizes.expand(kv_latent, k_rope, kv_b_proj)?;
    let flash::Gradients { dq, dk, dv } = flash::backward(dout, q, &k, &v, out, lse, config)?;
    drop((k, v));
    let nope = sizes.nope_dim;
    let dk_nope = dk.slice(s![.., .., .., ..nope]);
    let mut dkv_latent = zeros(kv_latent.dim().into())?;
    sizes.add_to_latents(&dk_nope, &dv, kv_b_proj, &mut dkv_latent);
    let mut dk_rope = zeros(k_rope.dim().into())?;
    let n_heads = if dk_rope.is_empty() {
        0 // however many heads there are
    } else {
        sizes.n_heads
    };
    for h in 0..n_heads {
        dk_rope += &dk.slice(s![.., h..=h, .., nope..]);
    }
    let mut dkv_b_proj = sizes.weight()?;
    sizes.add_to_weight(&mut dkv_b_proj, [&dk_nope, kv_latent], [&dv, kv_latent]);
    Ok(Gradients {
        dq,
        dkv_latent,
        dk_rope,
        dkv_b_proj,
    })
}

/// The gradients of either forward, by the absorbed form: for a long cache and few queries.
///
/// With `q'` of [`absorb_queries`](super::absorb_queries), `u_hi` the result over the latents and
/// `du_hi = V_h^T dout_hi`, [`flash::backward`] of the one key-value head gives `dq'`, the gradient
/// of its keys and that of its values. Then
///
/// ```text
/// dq_hi = [K_h dq'_hi.latent, dq'_hi.rotated]
/// dc_j = dkey_j.latent + dvalue_j,   dr_j = dkey_j.rotated
/// dK_h = sum_i q_hi.nope dq'_hi.latent^T,   dV_h = sum_i dout_hi u_hi^T
/// ```
///
/// `u` is computed anew: one forward more. Nothing here has the size of keys times heads; for
/// as many queries as keys [`backward_naive`] is faster.
///
/// # Shapes
///
/// As [`backward_naive`].
///
/// # Errors
///
/// As [`backward_naive`].
///
/// # Precision
///
/// Sums in `F`, in an order that does not depend on the number of threads. Differs from
/// [`backward_naive`] by rounding.
///
/// # Example
///
/// As that of [`backward_naive`], which it can take the place of.
///
/// Source: the derivative of the formula of [`forward_absorbed`](super::forward_absorbed).
#[allow(
    clippy::too_many_arguments,
    reason = "seven arrays and a config are what the gradient needs"
)]
pub fn backward_absorbed<F: Float>(
    dout: &ArrayRef4<F>,
    q: &ArrayRef4<F>,
    kv_latent: &ArrayRef4<F>,
    k_rope: &ArrayRef4<F>,
    kv_b_proj: &ArrayRef2<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    config: &AttentionConfig,
) -> Result<Gradients<F>, AttentionError> {
    let sizes = Sizes::new(q, kv_latent, k_rope, kv_b_proj)?;
    check_saved(&sizes, dout, out, lse)?;
    let absorbed = sizes.absorb(q, kv_b_proj)?;
    let k = sizes.join(kv_latent, k_rope)?;
    let config = sizes.scaled(config);
    let over_latents = flash::forward(&absorbed, &k, kv_latent, &config)?;
    let mut dover = zeros(over_latents.dim().into())?;
    heads(
        &mut dover,
        sizes.work(sizes.value_dim),
        |b, h, mut dover| {
            let dout = dout.slice(s![b, h, .., ..]);
            products::add(&dout, &sizes.values(kv_b_proj, h), &mut dover);
        },
    );
    let inner = flash::backward(
        &dover,
        &absorbed,
        &k,
        kv_latent,
        &over_latents,
        lse,
        &config,
    )?;
    drop((absorbed, k, dover));
    let latent = sizes.latent_dim;
    let mut dq = zeros(q.dim().into())?;
    let (mut dq_nope, mut dq_rope) = dq.multi_slice_mut((
        s![.., .., .., ..sizes.nope_dim],
        s![.., .., .., sizes.nope_dim..],
    ));
    heads(&mut dq_nope, sizes.work(sizes.nope_dim), |b, h, mut dq| {
        let dabsorbed = inner.dq.slice(s![b, h, .., ..latent]);
        products::add(&dabsorbed, &sizes.keys(kv_b_proj, h).t(), &mut dq);
    });
    dq_rope.assign(&inner.dq.slice(s![.., .., .., latent..]));
    let mut dkv_b_proj = sizes.weight()?;
    let q_nope = q.slice(s![.., .., .., ..sizes.nope_dim]);
    let dq_latent = inner.dq.slice(s![.., .., .., ..latent]);
    sizes.add_to_weight(
        &mut dkv_b_proj,
        [&q_nope, &dq_latent],
        [dout, &over_latents],
    );
    let mut dkv_latent = inner.dv;
    dkv_latent += &inner.dk.slice(s![.., .., .., ..latent]);
    let mut dk_rope = zeros(k_rope.dim().into())?;
    dk_rope.assign(&inner.dk.slice(s![.., .., .., latent..]));
    Ok(Gradients {
        dq,
        dkv_latent,
        dk_rope,
        dkv_b_proj,
    })
}

fn check_saved<F>(
    sizes: &Sizes,
    dout: &ArrayRef4<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
) -> Result<(), AttentionError> {
    let &Sizes {
        batch,
        n_heads,
        seq,
        value_dim,
        ..
    } = sizes;
    check("dout", [batch, n_heads, seq, value_dim], dout)?;
    check("out", [batch, n_heads, seq, value_dim], out)?;
    check_lse([batch, n_heads, seq], lse)
}
