//! Differential attention: the difference of two softmaxes over the same values.

use ndarray::{Array1, Array3, Array4, ArrayRef1, ArrayRef4, Axis};

use crate::flash::{check, check_lse, zeros};
use crate::{AttentionConfig, AttentionError, flash, memory};
use llm_numerics::Float;

pub mod head_norm;
pub mod lambda;

/// What [`forward_with_saved`] keeps for [`backward`]: both attentions on their own.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Saved<F> {
    /// Their results: `[batch, n_heads, seq, value_dim]` each.
    pub outs: [Array4<F>; 2],
    /// Their log-sum-exps: `[batch, n_heads, seq]` each.
    pub lses: [Array3<F>; 2],
}

/// The gradients of [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For the queries: `[batch, n_heads, seq, head_dim]` each.
    pub dq: [Array4<F>; 2],
    /// For the keys: `[batch, n_kv_heads, kv_seq, head_dim]` each.
    pub dk: [Array4<F>; 2],
    /// For the values: `[batch, n_kv_heads, kv_seq, value_dim]`.
    pub dv: Array4<F>,
    /// For the weights of the second softmax: `[n_heads]`.
    pub dlambda: Array1<F>,
}

/// Attention of one set of queries and keys, less `lambda` times that of another.
///
/// ```text
/// out_h = (softmax(scale q1_h k1^T) - lambda_h softmax(scale q2_h k2^T)) v
/// ```
///
/// What both look at falls out (the paper speaks of common-mode noise); weights may be
/// negative, and a row sums to `1 - lambda`. The rest of the layer: [`lambda`] makes `lambda` from
/// learned vectors, [`head_norm`] norms what comes out. A model has one `lambda` for all
/// heads of a layer; its gradient is the sum over the heads.
///
/// Which heads form a pair is not the same everywhere, so queries and keys come in as two
/// arrays, views of one as a rule: transformers' `DiffLlama` pairs head `h` with
/// `h + n_heads / 2` (`split_at`), the paper's code neighbors (`slice` with step 2). The values
/// of a pair are as long as both heads together: in transformers those of key-value heads `g`
/// and `g + n_kv_heads / 2` side by side.
///
/// # Shapes
///
/// - `q`: two of `[batch, n_heads, seq, head_dim]`, any strides
/// - `k`: two of `[batch, n_kv_heads, kv_seq, head_dim]`
/// - `v`: `[batch, n_kv_heads, kv_seq, value_dim]`
/// - `lambda`: `[n_heads]`; heads are counted in pairs here
/// - returns: `[batch, n_heads, seq, value_dim]`
///
/// A query that sees no key gets zeros.
///
/// # Errors
///
/// - [`AttentionError::Shape`] if the second queries or keys are not shaped as the first.
/// - [`AttentionError::Lambda`] if there is not one `lambda` for each head.
/// - What [`flash::forward`] refuses.
///
/// # Precision
///
/// Both attentions in `F`, as [`flash::forward`]; where they are nearly equal their difference has
/// few digits. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, differential};
/// use ndarray::{Array4, array};
///
/// // Two keys. The first softmax weighs them 3 : 1, the second 1 : 1.
/// let q = Array4::<f64>::ones((1, 1, 1, 1));
/// let k1 = array![[[[3_f64.ln()], [0.0]]]];
/// let k2 = Array4::zeros((1, 1, 2, 1));
/// let v = array![[[[1.0, 0.0], [0.0, 1.0]]]]; // shows the weights
/// let config = AttentionConfig::new(Mask::Full);
/// let out = differential::forward([&q, &q], [&k1, &k2], &v, &array![0.5], &config)?;
/// let want = array![[[[0.75 - 0.25, 0.25 - 0.25]]]];
/// assert!((out - want).iter().all(|x| x.abs() < 1e-15));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Ye et al., Differential Transformer, arXiv:2410.05258v2, section 2.1;
/// `DiffLlamaAttention` of transformers 5.23.0.
pub fn forward<F: Float>(
    q: [&ArrayRef4<F>; 2],
    k: [&ArrayRef4<F>; 2],
    v: &ArrayRef4<F>,
    lambda: &ArrayRef1<F>,
    config: &AttentionConfig,
) -> Result<Array4<F>, AttentionError> {
    check_pairs(q, k, lambda)?;
    let mut out = flash::forward(q[0], k[0], v, config)?;
    let second = flash::forward(q[1], k[1], v, config)?;
    subtract(&mut out, &second, lambda);
    Ok(out)
}

/// [`forward`], and what [`backward`] needs.
///
/// # Shapes
///
/// - the inputs as in [`forward`]
/// - returns: `[batch, n_heads, seq, value_dim]`, and both attentions on their own, see [`Saved`]
///
/// # Errors
///
/// As [`forward`].
///
/// # Precision
///
/// The bits of [`forward`].
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, differential};
/// use ndarray::{Array4, array};
///
/// // Another `lambda` of the same attentions, without computing them again.
/// let x = Array4::<f64>::ones((1, 1, 2, 4)); // [batch, n_heads, seq, head_dim]
/// let (q, config) = ([&*x, &*x], AttentionConfig::new(Mask::Full));
/// let (out, saved) = differential::forward_with_saved(q, q, &x, &array![0.25], &config)?;
/// let [first, second] = &saved.outs;
/// assert_eq!(out, first - &(0.25 * second));
/// assert_eq!(saved.lses[0].dim(), (1, 1, 2));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward`].
pub fn forward_with_saved<F: Float>(
    q: [&ArrayRef4<F>; 2],
    k: [&ArrayRef4<F>; 2],
    v: &ArrayRef4<F>,
    lambda: &ArrayRef1<F>,
    config: &AttentionConfig,
) -> Result<(Array4<F>, Saved<F>), AttentionError> {
    check_pairs(q, k, lambda)?;
    let (first, first_lse) = flash::forward_with_lse(q[0], k[0], v, config)?;
    let (second, second_lse) = flash::forward_with_lse(q[1], k[1], v, config)?;
    let mut out = zeros(first.dim().into())?;
    out.assign(&first);
    subtract(&mut out, &second, lambda);
    let saved = Saved {
        outs: [first, second],
        lses: [first_lse, second_lse],
    };
    Ok((out, saved))
}

/// The gradients of [`forward`] for queries, keys, values and `lambda`.
///
/// The gradients of two attentions, of which the second gets `-lambda dout`, and
///
/// ```text
/// dlambda_h = - sum_(batch, i) <dout_hi, out2_hi>
/// ```
///
/// # Shapes
///
/// - `dout`: `[batch, n_heads, seq, value_dim]`
/// - `saved`: from [`forward_with_saved`] with the same arrays and config
/// - returns: two arrays shaped as `q`, two as `k`, and one each as `v` and `lambda`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] and [`AttentionError::LseShape`] if `dout` or
/// an array of `saved` does not have the shape above.
///
/// # Precision
///
/// As [`flash::backward`]; `dlambda` is summed in `f64` and rounded once.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, differential};
/// use ndarray::{Array4, array};
///
/// // One key: both weights are 1, and out = (1 - lambda) v.
/// let one = Array4::<f64>::ones((1, 1, 1, 1));
/// let v = Array4::from_elem((1, 1, 1, 1), 3.0);
/// let (lambda, config) = (array![0.25], AttentionConfig::new(Mask::Full));
/// let (q, k) = ([&*one, &*one], [&*one, &*one]);
/// let (out, saved) = differential::forward_with_saved(q, k, &v, &lambda, &config)?;
/// assert_eq!(out[[0, 0, 0, 0]], 0.75 * 3.0);
/// let gradients = differential::backward(&one, q, k, &v, &lambda, &saved, &config)?;
/// assert_eq!(gradients.dv[[0, 0, 0, 0]], 0.75);
/// assert_eq!(gradients.dlambda, array![-3.0]);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: the derivative of the formula of [`forward`].
pub fn backward<F: Float>(
    dout: &ArrayRef4<F>,
    q: [&ArrayRef4<F>; 2],
    k: [&ArrayRef4<F>; 2],
    v: &ArrayRef4<F>,
    lambda: &ArrayRef1<F>,
    saved: &Saved<F>,
    config: &AttentionConfig,
) -> Result<Gradients<F>, AttentionError> {
    check_pairs(q, k, lambda)?;
    let (batch, n_heads, seq, _) = q[0].dim();
    let shape = [batch, n_heads, seq, v.dim().3];
    check("dout", shape, dout)?;
    for (name, out) in ["saved.outs[0]", "saved.outs[1]"]
        .into_iter()
        .zip(&saved.outs)
    {
        check(name, shape, out)?;
    }
    for lse in &saved.lses {
        check_lse([batch, n_heads, seq], lse)?;
    }
    memory::fits::<F>([1, 1, 1, n_heads])?;
    let [first, second] = &saved.outs;
    let mut dsecond = zeros(shape)?;
    subtract(&mut dsecond, dout, lambda); // 0 - lambda dout
    let [lse, second_lse] = &saved.lses;
    let one = flash::backward(dout, q[0], k[0], v, first, lse, config)?;
    let two = flash::backward(&dsecond, q[1], k[1], v, second, second_lse, config)?;
    let mut dv = one.dv;
    dv += &two.dv;
    let heads = dout.axis_iter(Axis(1)).zip(second.axis_iter(Axis(1)));
    let sums = heads.map(|(dout, out)| {
        let terms = dout.iter().zip(&out).map(|(&x, &y)| (x * y).as_f64());
        F::from_f64(-terms.sum::<f64>())
    });
    Ok(Gradients {
        dq: [one.dq, two.dq],
        dk: [one.dk, two.dk],
        dv,
        dlambda: sums.collect(),
    })
}

/// `out -= lambda_h second`.
fn subtract<F: Float>(out: &mut Array4<F>, second: &ArrayRef4<F>, lambda: &ArrayRef1<F>) {
    if out.is_empty() {
        return; // however many heads of nothing there are
    }
    let heads = out.axis_iter_mut(Axis(1)).zip(second.axis_iter(Axis(1)));
    for ((mut out, second), &lambda) in heads.zip(lambda) {
        out.zip_mut_with(&second, |out, &second| *out -= lambda * second);
    }
}

/// Refuses pairs of different shapes, and a number of `lambda` that is not that of the heads.
fn check_pairs<F>(
    q: [&ArrayRef4<F>; 2],
    k: [&ArrayRef4<F>; 2],
    lambda: &ArrayRef1<F>,
) -> Result<(), AttentionError> {
    check("q[1]", q[0].dim().into(), q[1])?;
    check("k[1]", k[0].dim().into(), k[1])?;
    let (n_heads, got) = (q[0].dim().1, lambda.len());
    if n_heads == got {
        Ok(())
    } else {
        Err(AttentionError::Lambda { n_heads, got })
    }
}
