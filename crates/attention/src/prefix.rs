//! Learned keys and values that every query of every sequence sees before the others.

use ndarray::{Array3, Array4, ArrayRef3, ArrayRef4, ArrayView4, Axis};

use crate::{AttentionConfig, AttentionError, Mask, flash, memory, merge};
use llm_numerics::Float;

/// The gradients of [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For the queries: `[batch, n_heads, seq, head_dim]`.
    pub dq: Array4<F>,
    /// For the keys of the sequences: `[batch, n_kv_heads, kv_seq, head_dim]`.
    pub dk: Array4<F>,
    /// For the values of the sequences: `[batch, n_kv_heads, kv_seq, value_dim]`.
    pub dv: Array4<F>,
    /// For the keys of the prefix: `[n_kv_heads, prefix, head_dim]`.
    pub dprefix_k: Array3<F>,
    /// For the values of the prefix: `[n_kv_heads, prefix, value_dim]`.
    pub dprefix_v: Array3<F>,
}

/// Attention to a prefix that all sequences share, and to the keys of each, and its log-sum-exp.
///
/// ```text
/// out = softmax(scale q [prefix_k; k]^T + [0, mask]) [prefix_v; v]
/// ```
///
/// The prefix is read where it lies, not copied for each sequence, and the keys are not moved to
/// make room: both are attended to on their own and [merged](crate::merge). `config.mask` counts
/// the keys of the sequences alone, so a window does not pass the prefix by; under
/// `Causal(BottomRight)` the result is that of the joined keys under the same mask.
///
/// Positions: prefix keys are not rotated. PEFT lets the tokens behind it count from `prefix`,
/// `ChatGLM`'s own P-Tuning v2 from 0; keys and queries come in rotated, so the caller decides.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, head_dim]`, any strides
/// - `k`: `[batch, n_kv_heads, kv_seq, head_dim]`
/// - `v`: `[batch, n_kv_heads, kv_seq, value_dim]`
/// - `prefix_k`: `[n_kv_heads, prefix, head_dim]`
/// - `prefix_v`: `[n_kv_heads, prefix, value_dim]`
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// # Errors
///
/// - [`AttentionError::PrefixShape`] if `prefix_k` or `prefix_v` does not fit `k` and `v`.
/// - What [`flash::forward`] refuses.
///
/// # Precision
///
/// As [`merge::forward`]. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask, prefix};
/// use ndarray::{Array3, Array4};
///
/// let q = Array4::<f64>::ones((2, 4, 3, 8)); // [batch, n_heads, seq, head_dim]
/// let k = Array4::<f64>::ones((2, 2, 3, 8)); // [batch, n_kv_heads, kv_seq, head_dim]
/// let prefix_k = Array3::<f64>::ones((2, 5, 8)); // [n_kv_heads, prefix, head_dim]
/// let prefix_v = Array3::zeros((2, 5, 8));
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let (out, _) = prefix::forward(&q, &k, &k, &prefix_k, &prefix_v, &config)?;
/// // The first query sees 5 prefix keys and 1 other, all alike: 1 / 6 of the value 1.
/// assert!((out[[0, 0, 0, 0]] - 1.0 / 6.0).abs() < 1e-15);
/// assert!((out[[1, 3, 2, 7]] - 3.0 / 8.0).abs() < 1e-15);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Li and Liang, prefix-tuning, arXiv:2101.00190v1, section 4; Liu et al., P-Tuning
/// v2, arXiv:2110.07602v3. Without copies: Juravsky et al., Hydragen, arXiv:2402.05099v1.
pub fn forward<F: Float>(
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    prefix_k: &ArrayRef3<F>,
    prefix_v: &ArrayRef3<F>,
    config: &AttentionConfig,
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    let (of_all_k, of_all_v) = broadcast(q, k, v, prefix_k, prefix_v)?;
    let own = flash::forward_with_lse(q, k, v, config)?;
    let all = flash::forward_with_lse(q, &of_all_k, &of_all_v, &unmasked(config))?;
    merge::forward(&[&all.0, &own.0], &[&all.1, &own.1])
}

/// The gradients of [`forward`].
///
/// [`flash::backward`] of both pieces, each given the merged `out` and `lse`, yields the share of
/// each; the prefix gets the sum over all sequences:
///
/// ```text
/// dprefix_k = sum_batch dk_prefix,   dprefix_v = sum_batch dv_prefix
/// ```
///
/// The shares of all sequences are in memory before they are summed: two arrays
/// `[batch, n_kv_heads, prefix, features]`.
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`; `lse`: `[batch, n_heads, seq]`,
///   both from [`forward`] with the same arrays and config
/// - returns: arrays shaped as `q`, `k`, `v`, `prefix_k` and `prefix_v`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] and [`AttentionError::LseShape`] if `dout`,
/// `out` or `lse` does not have the shape above.
///
/// # Precision
///
/// As [`flash::backward`]; sums over the batch in `F`, in order.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, prefix};
/// use ndarray::{Array3, Array4};
///
/// // One prefix key and one other, alike: each has half of the weight, in 3 sequences.
/// let one = Array4::<f64>::ones((3, 1, 1, 1));
/// let learned = Array3::ones((1, 1, 1));
/// let config = AttentionConfig::new(Mask::Full);
/// let (out, lse) = prefix::forward(&one, &one, &one, &learned, &learned, &config)?;
/// let got = prefix::backward(&one, &one, &one, &one, &learned, &learned, &out, &lse, &config)?;
/// assert!((got.dprefix_v[[0, 0, 0]] - 1.5).abs() < 1e-15);
/// assert!((got.dv[[2, 0, 0, 0]] - 0.5).abs() < 1e-15);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: the derivative of the formula of [`forward`].
#[allow(
    clippy::too_many_arguments,
    reason = "eight arrays and a config are what the gradient needs"
)]
pub fn backward<F: Float>(
    dout: &ArrayRef4<F>,
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    prefix_k: &ArrayRef3<F>,
    prefix_v: &ArrayRef3<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    config: &AttentionConfig,
) -> Result<Gradients<F>, AttentionError> {
    let (of_all_k, of_all_v) = broadcast(q, k, v, prefix_k, prefix_v)?;
    let own = flash::backward(dout, q, k, v, out, lse, config)?;
    let config = unmasked(config);
    let all = flash::backward(dout, q, &of_all_k, &of_all_v, out, lse, &config)?;
    let mut dq = all.dq;
    dq += &own.dq;
    Ok(Gradients {
        dq,
        dk: own.dk,
        dv: own.dv,
        dprefix_k: sum_of_batch(&all.dk)?,
        dprefix_v: sum_of_batch(&all.dv)?,
    })
}

/// The prefix as keys and values of each sequence, without a copy.
fn broadcast<'a, F: Float>(
    q: &ArrayRef4<F>,
    k: &ArrayRef4<F>,
    v: &ArrayRef4<F>,
    prefix_k: &'a ArrayRef3<F>,
    prefix_v: &'a ArrayRef3<F>,
) -> Result<(ArrayView4<'a, F>, ArrayView4<'a, F>), AttentionError> {
    let batch = q.dim().0;
    let (_, n_kv_heads, _, head_dim) = k.dim();
    let prefix = prefix_k.dim().1;
    for (name, width, array) in [
        ("prefix_k", head_dim, prefix_k),
        ("prefix_v", v.dim().3, prefix_v),
    ] {
        let (expected, got) = ([n_kv_heads, prefix, width], array.dim().into());
        if got != expected {
            return Err(AttentionError::PrefixShape {
                name,
                expected,
                got,
            });
        }
    }
    let for_each = |x: &'a ArrayRef3<F>| {
        let (heads, prefix, width) = x.dim();
        let shape = [batch, heads, prefix, width];
        // Refused by `ndarray` if there are more elements than the address space has bytes.
        x.broadcast(shape).ok_or(AttentionError::TooLarge { shape })
    };
    Ok((for_each(prefix_k)?, for_each(prefix_v)?))
}

/// The settings for the keys of the prefix, which all queries see.
fn unmasked(config: &AttentionConfig) -> AttentionConfig {
    let mut config = *config;
    config.mask = Mask::Full;
    config
}

/// The sum over the batch, in order.
fn sum_of_batch<F: Float>(x: &Array4<F>) -> Result<Array3<F>, AttentionError> {
    let (_, heads, prefix, width) = x.dim();
    memory::fits::<F>([1, heads, prefix, width])?;
    let mut sum = Array3::zeros((heads, prefix, width));
    for x in x.axis_iter(Axis(0)) {
        sum += &x;
    }
    Ok(sum)
}
