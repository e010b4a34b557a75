//! Multi-head latent attention (MLA): all heads share one short latent vector for each token.
//!
//! A token leaves two vectors in the cache, whatever the number of heads: its latent
//! `c_j`, from which `kv_b_proj` makes the keys and values of all heads, and one rotated
//! key `r_j` for all heads. `kv_b_proj` has for each head `h` first the rows `K_h` of the
//! keys (`nope_dim`, not rotated), then the rows `V_h` of the values (`value_dim`). Both
//! forms compute the same:
//!
//! ```text
//! naive      k_hj = [K_h c_j, r_j],  v_hj = V_h c_j,  then attention head by head
//! absorbed   q'_hi = [K_h^T q_hi.nope, q_hi.rotated], then attention of all heads to one
//!            key [c_j, r_j] and one value c_j, then V_h times the result
//! ```
//!
//! With `n` heads, multiply-adds and numbers held for a key:
//!
//! | | once for each key | for each query and head | held for a key |
//! |---|---|---|---|
//! | naive | `n latent_dim (nope_dim + value_dim)` | `nope_dim + rotary_dim + value_dim` | `n (nope_dim + rotary_dim + value_dim)` |
//! | absorbed | 0 | `2 latent_dim + rotary_dim` | `latent_dim + rotary_dim` |
//!
//! and the absorbed form `latent_dim (nope_dim + value_dim)` more for each query and head. In the
//! sizes of DeepSeek-V2 (128 heads, latent 512, 128 + 64 features, values 128) that is 320
//! against 1088 for a pair, and 40,960 against 576 for a key: the naive form is for
//! training and prefill, the absorbed one for decoding from a cache of latents.
//!
//! Outside of this module, as arrays come in: the projections `q_a`, `q_b`, `kv_a` and
//! `o`, both norms (`kv_latent` is normalized already), and the rotation of the trailing
//! `rotary_dim` features of the queries and of `k_rope`. DeepSeek-V2 rotates neighboring
//! pairs in place, V3 of transformers reads them and writes halves; scores are the same.
//!
//! Source: DeepSeek-V2, arXiv:2405.04434v5, section 2.1; `DeepseekV3Attention` of transformers
//! 5.23.0 is the naive form.

use ndarray::{Array3, Array4, ArrayRef2, ArrayRef4};

use crate::{AttentionConfig, AttentionError, flash};
use llm_numerics::Float;

mod backward;
mod products;

pub use backward::{Gradients, backward_absorbed, backward_naive};
use products::Sizes;

/// Latent attention with the keys and values of each head written out, and its log-sum-exp.
///
/// ```text
/// s_hij = scale (<q_hi.nope, K_h c_j> + <q_hi.rotated, r_j>)
/// out_hi = sum_j softmax_j(s_hij) V_h c_j
/// ```
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, nope_dim + rotary_dim]`, any strides; rotated features last
/// - `kv_latent`: `[batch, 1, kv_seq, latent_dim]`
/// - `k_rope`: `[batch, 1, kv_seq, rotary_dim]`
/// - `kv_b_proj`: `[n_heads * (nope_dim + value_dim), latent_dim]`; for each head the rows
///   of its keys, then those of its values
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// The default scale is `1 / sqrt(nope_dim + rotary_dim)`. A model with YaRN multiplies it with
/// the square of its `mscale`: give the product to [`AttentionConfig::with_scale`].
///
/// # Errors
///
/// - [`AttentionError::RotaryDim`] if `k_rope` has more features than `q`.
/// - [`AttentionError::Shape`] if `kv_latent` or `k_rope` does not fit.
/// - [`AttentionError::HeadRows`] if the rows of `kv_b_proj` are not a multiple of `n_heads`.
/// - [`AttentionError::NopeRows`] if a head has fewer rows than `nope_dim`.
/// - [`AttentionError::LatentDim`] if `kv_b_proj` does not have `latent_dim` columns.
/// - [`AttentionError::TooLarge`] if the result, or the keys and values of all heads, do not
///   fit into memory.
/// - What [`flash::forward`] refuses in `config`.
///
/// # Precision
///
/// As [`flash::forward`], of keys and values that are rounded to `F`. The same bits for
/// any number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask, mla};
/// use ndarray::{Array2, Array4};
///
/// let (n_heads, nope_dim, rotary_dim, value_dim, latent_dim) = (4, 6, 2, 5, 8);
/// let number = |(_, a, b, c): (usize, usize, usize, usize)| ((a + 2 * b + 3 * c) % 7) as f64 / 7.0;
/// let q = Array4::from_shape_fn((1, n_heads, 3, nope_dim + rotary_dim), number);
/// let kv_latent = Array4::from_shape_fn((1, 1, 9, latent_dim), number);
/// let k_rope = Array4::from_shape_fn((1, 1, 9, rotary_dim), number);
/// let rows = n_heads * (nope_dim + value_dim);
/// let kv_b_proj = Array2::from_shape_fn((rows, latent_dim), |(r, c)| number((0, r, c, 1)));
///
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let (out, lse) = mla::forward_naive(&q, &kv_latent, &k_rope, &kv_b_proj, &config)?;
/// assert_eq!(out.dim(), (1, n_heads, 3, value_dim));
/// let (same, same_lse) = mla::forward_absorbed(&q, &kv_latent, &k_rope, &kv_b_proj, &config)?;
/// assert!((out - same).iter().all(|x| x.abs() < 1e-12));
/// assert!((lse - same_lse).iter().all(|x| x.abs() < 1e-12));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: DeepSeek-V2, arXiv:2405.04434v5, sections 2.1.2 and 2.1.3.
pub fn forward_naive<F: Float>(
    q: &ArrayRef4<F>,
    kv_latent: &ArrayRef4<F>,
    k_rope: &ArrayRef4<F>,
    kv_b_proj: &ArrayRef2<F>,
    config: &AttentionConfig,
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    let sizes = Sizes::new(q, kv_latent, k_rope, kv_b_proj)?;
    let (k, v) = sizes.expand(kv_latent, k_rope, kv_b_proj)?;
    flash::forward_with_lse(q, &k, &v, config)
}

/// Latent attention over the latents themselves, and its log-sum-exp: for decoding.
///
/// Key and value rows of `kv_b_proj` are applied to queries and results instead of to each
/// key, so no key or value of a head exists; one copy of the latents beside `k_rope` does. A
/// cache that holds both side by side needs none: [`absorb_queries`],
/// [`flash::forward_with_lse`] with the cache as keys and its leading `latent_dim` features as
/// values, then [`project_values`].
///
/// # Shapes
///
/// As [`forward_naive`].
///
/// # Errors
///
/// As [`forward_naive`].
///
/// # Precision
///
/// As [`forward_naive`], but the same numbers are summed in another order: results of the two
/// forms differ by rounding. The same bits for any number of threads.
///
/// # Example
///
/// See [`forward_naive`].
///
/// Source: DeepSeek-V2, arXiv:2405.04434v5, section 2.1.2 (which says that the projections
/// can be absorbed).
pub fn forward_absorbed<F: Float>(
    q: &ArrayRef4<F>,
    kv_latent: &ArrayRef4<F>,
    k_rope: &ArrayRef4<F>,
    kv_b_proj: &ArrayRef2<F>,
    config: &AttentionConfig,
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    let sizes = Sizes::new(q, kv_latent, k_rope, kv_b_proj)?;
    let absorbed = sizes.absorb(q, kv_b_proj)?;
    let k = sizes.join(kv_latent, k_rope)?;
    let config = sizes.scaled(config);
    let (out, lse) = flash::forward_with_lse(&absorbed, &k, kv_latent, &config)?;
    Ok((sizes.project(&out, kv_b_proj)?, lse))
}

/// Queries that can be asked of the latents: `[K_h^T q_hi.nope, q_hi.rotated]`.
///
/// Attention of them takes the scale `1 / sqrt(nope_dim + rotary_dim)` of the queries that
/// came in, which is not its default.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, nope_dim + rotary_dim]`, any strides; rotated features last
/// - `kv_b_proj`: `[n_heads * (nope_dim + value_dim), latent_dim]`
/// - `nope_dim`: how many features of `q` are not rotated
/// - returns: `[batch, n_heads, seq, latent_dim + rotary_dim]`
///
/// # Errors
///
/// - [`AttentionError::NopeDim`] if `nope_dim` is more than `q` has features.
/// - [`AttentionError::HeadRows`] if the rows of `kv_b_proj` are not a multiple of `n_heads`.
/// - [`AttentionError::NopeRows`] if a head has fewer rows than `nope_dim`.
/// - [`AttentionError::TooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// Sums in `F`.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, flash, mla};
/// use ndarray::{Array2, Array4, s};
///
/// // A cache that holds latents of 3 features and, behind them, rotated keys of 2.
/// let cache = Array4::<f64>::ones((1, 1, 10, 3 + 2));
/// let q = Array4::<f64>::ones((1, 4, 1, 6 + 2)); // nope_dim 6, rotary_dim 2
/// let kv_b_proj = Array2::from_elem((4 * (6 + 5), 3), 0.5); // value_dim 5
///
/// let absorbed = mla::absorb_queries(&q, &kv_b_proj, 6)?;
/// let config = AttentionConfig::new(Mask::Full).with_scale(1.0 / 8_f64.sqrt());
/// let latents = cache.slice(s![.., .., .., ..3]);
/// let out = flash::forward(&absorbed, &cache, &latents, &config)?;
/// let out = mla::project_values(&out, &kv_b_proj, 6)?;
/// assert_eq!(out.dim(), (1, 4, 1, 5));
/// assert!(out.iter().all(|x| (x - 1.5).abs() < 1e-12)); // three latents of 1, times a half
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward_absorbed`].
pub fn absorb_queries<F: Float>(
    q: &ArrayRef4<F>,
    kv_b_proj: &ArrayRef2<F>,
    nope_dim: usize,
) -> Result<Array4<F>, AttentionError> {
    let head_dim = q.dim().3;
    if nope_dim > head_dim {
        return Err(AttentionError::NopeDim { nope_dim, head_dim });
    }
    Sizes::of_queries(q, kv_b_proj, nope_dim)?.absorb(q, kv_b_proj)
}

/// Results over latents turned into results over values: `V_h out_hi`.
///
/// # Shapes
///
/// - `out`: `[batch, n_heads, seq, latent_dim]`, any strides
/// - `kv_b_proj`: `[n_heads * (nope_dim + value_dim), latent_dim]`
/// - `nope_dim`: how many rows of a head belong to its keys
/// - returns: `[batch, n_heads, seq, value_dim]`
///
/// # Errors
///
/// - [`AttentionError::HeadRows`] if the rows of `kv_b_proj` are not a multiple of `n_heads`.
/// - [`AttentionError::NopeRows`] if a head has fewer rows than `nope_dim`.
/// - [`AttentionError::LatentDim`] if `kv_b_proj` does not have `latent_dim` columns.
/// - [`AttentionError::TooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// Sums in `F`.
///
/// # Example
///
/// See [`absorb_queries`].
///
/// Source: as [`forward_absorbed`].
pub fn project_values<F: Float>(
    out: &ArrayRef4<F>,
    kv_b_proj: &ArrayRef2<F>,
    nope_dim: usize,
) -> Result<Array4<F>, AttentionError> {
    let sizes = Sizes::of_queries(out, kv_b_proj, nope_dim)?;
    sizes.check_latent(out.dim().3)?;
    sizes.project(out, kv_b_proj)
}
