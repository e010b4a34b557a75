//! Attention sinks: a learned score for each head that takes weight and gives no value.

use ndarray::{
    Array1, Array3, Array4, ArrayRef1, ArrayRef3, ArrayRef4, ArrayViewMut1, ArrayViewMut2, Zip,
};

use crate::flash::{check, check_lse, zeros, zeros_lse};
use crate::{AttentionError, memory};
use llm_numerics::{Float, simd, threads};

/// Elements from which on threads are woken.
const PARALLEL: usize = 1 << 18;

/// Attention with sinks, from attention without.
///
/// Query head `h` has one more score, `sinks[h]`, that no key and no value belongs to. It
/// takes its share of the softmax, so the weights of the keys sum to less than one:
///
/// ```text
/// lse' = ln(e^lse + e^sink)
/// out' = e^(lse - lse') out = out / (1 + e^(sink - lse))
/// ```
///
/// The results take the place of `out` and `lse`: given to
/// [`flash::backward`](crate::flash::backward) they make its gradients those of attention
/// with sinks. Any mask, window and softcap may have been there before.
///
/// # Shapes
///
/// - `out`: `[batch, n_heads, seq, value_dim]`, any strides, and `lse`: `[batch, n_heads, seq]`,
///   from [`flash::forward_with_lse`](crate::flash::forward_with_lse)
/// - `sinks`: `[n_heads]`
///
/// A query that sees no key keeps its zeros, and its `lse` becomes the sink. A sink of `-inf`
/// changes nothing, one of `+inf` takes all.
///
/// # Errors
///
/// [`AttentionError::LseShape`] if `lse` does not fit `out`, [`AttentionError::Sinks`] if there
/// are not as many sinks as heads. Nothing is changed then.
///
/// # Precision
///
/// In `F`. The weight is taken as `1 / (1 + e^(sink - lse))`, so nothing overflows, and large
/// numbers cost no digits: some units in the last place, in `f32` those of
/// [`sigmoid`](llm_numerics::Float::sigmoid). The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, flash, sinks};
/// use ndarray::{Array4, array};
///
/// let ones = Array4::<f64>::ones((1, 2, 1, 4)); // [batch, n_heads, seq, head_dim]
/// let config = AttentionConfig::new(Mask::Full).with_scale(0.0);
/// let (mut out, mut lse) = flash::forward_with_lse(&ones, &ones, &ones, &config)?;
/// // One key with the score 0. A sink of ln 3 takes three quarters of the weight.
/// sinks::apply_inplace(&mut out, &mut lse, &array![3_f64.ln(), f64::NEG_INFINITY])?;
/// assert!((out[[0, 0, 0, 0]] - 0.25).abs() < 1e-15);
/// assert_eq!(out[[0, 1, 0, 0]], 1.0);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: gpt-oss, arXiv:2508.10925v1, section 2, as transformers 5.23.0 has it
/// (`modeling_gpt_oss.eager_attention_forward`); the idea: Xiao et al., *Efficient Streaming
/// Language Models with Attention Sinks*, arXiv:2309.17453v4.
pub fn apply_inplace<F: Float>(
    out: &mut ArrayRef4<F>,
    lse: &mut ArrayRef3<F>,
    sinks: &ArrayRef1<F>,
) -> Result<(), AttentionError> {
    check_sinks(out, lse, sinks)?;
    if lse.is_empty() {
        return Ok(()); // however many heads there are
    }
    let heads: Vec<_> = out
        .outer_iter_mut()
        .zip(lse.outer_iter_mut())
        .flat_map(|(out, lse)| {
            let heads = out.into_outer_iter_mut().zip(lse.into_outer_iter_mut());
            heads.zip(sinks)
        })
        .collect();
    let is_parallel = heads
        .iter()
        .fold(0_usize, |sum, ((out, _), _)| sum.saturating_add(out.len()))
        >= PARALLEL;
    let work = |((mut out, lse), &sink): ((ArrayViewMut2<'_, F>, ArrayViewMut1<'_, F>), &F)| {
        if sink == F::neg_infinity() {
            return; // the difference of two of them would be NaN
        }
        for (mut out, lse) in out.outer_iter_mut().zip(lse) {
            // Not e^(lse - lse'): a large lse' has few digits behind the point.
            let weight = (*lse - sink).sigmoid();
            out.mapv_inplace(|x| weight * x);
            *lse = log_add_exp(*lse, sink);
        }
    };
    if is_parallel {
        threads::for_each(heads, work);
    } else {
        heads.into_iter().for_each(work);
    }
    Ok(())
}

/// [`apply_inplace`] into new arrays.
///
/// # Shapes
///
/// - `out`, `lse`, `sinks`: as in [`apply_inplace`]
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// # Errors
///
/// As [`apply_inplace`]; also [`AttentionError::TooLarge`] if the result does not fit into
/// memory.
///
/// # Precision
///
/// The bits of [`apply_inplace`].
///
/// # Example
///
/// ```
/// use llm_attention::sinks;
/// use ndarray::{Array3, Array4, array};
///
/// // What a sink takes: the results without it stay.
/// let out = Array4::<f64>::ones((1, 1, 1, 4)); // [batch, n_heads, seq, value_dim]
/// let lse = Array3::zeros((1, 1, 1));
/// let (with_sink, _) = sinks::apply(&out, &lse, &array![0.0])?;
/// assert_eq!((&out - &with_sink)[[0, 0, 0, 0]], 0.5);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`apply_inplace`].
pub fn apply<F: Float>(
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    sinks: &ArrayRef1<F>,
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    check_sinks(out, lse, sinks)?;
    let mut new_out = zeros(out.dim().into())?;
    let mut new_lse = zeros_lse(lse.dim().into())?;
    new_out.assign(out);
    new_lse.assign(lse);
    apply_inplace(&mut new_out, &mut new_lse, sinks)?;
    Ok((new_out, new_lse))
}

/// The gradient of the sinks.
///
/// ```text
/// dsink_h = - sum_(batch, i) e^(sink_h - lse'_i) <dout'_i, out'_i>
/// ```
///
/// The other gradients are those of [`flash::backward`](crate::flash::backward) with the
/// same `dout`, `out` and `lse`.
///
/// # Shapes
///
/// - `dout`, `out`: `[batch, n_heads, seq, value_dim]`; `lse`: `[batch, n_heads, seq]`; `out` and
///   `lse` as [`apply_inplace`] leaves them
/// - `sinks`: `[n_heads]`
/// - returns: `[n_heads]`
///
/// # Errors
///
/// As [`apply_inplace`]; also [`AttentionError::Shape`] if `dout` has another shape than `out`.
///
/// # Precision
///
/// Inner products in `F`, their sum in `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_attention::sinks;
/// use ndarray::{Array3, Array4, array};
///
/// // One key with the score 0 and the value 1, and a sink of ln 3: out = 1/4, lse = ln 4.
/// let out = Array4::from_elem((1, 1, 1, 1), 0.25);
/// let lse = Array3::from_elem((1, 1, 1), 4_f64.ln());
/// let dsinks = sinks::backward(&Array4::ones((1, 1, 1, 1)), &out, &lse, &array![3_f64.ln()])?;
/// assert!((dsinks[0] + 3.0 / 16.0).abs() < 1e-15); // out falls as the sink rises
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: the derivative of the formula above.
pub fn backward<F: Float>(
    dout: &ArrayRef4<F>,
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    sinks: &ArrayRef1<F>,
) -> Result<Array1<F>, AttentionError> {
    check_sinks(out, lse, sinks)?;
    check("dout", out.dim().into(), dout)?;
    memory::fits::<f64>([1, 1, 1, sinks.len()])?;
    if lse.is_empty() {
        return Ok(Array1::zeros(sinks.len()));
    }
    let mut sums = Array1::<f64>::zeros(sinks.len());
    for ((dout, out), lse) in (dout.outer_iter())
        .zip(out.outer_iter())
        .zip(lse.outer_iter())
    {
        Zip::from(&mut sums)
            .and(sinks)
            .and(dout.outer_iter())
            .and(out.outer_iter())
            .and(lse.outer_iter())
            .for_each(|sum, &sink, dout, out, lse| {
                if sink == F::neg_infinity() {
                    return; // no weight, whatever the query sees
                }
                for ((dout, out), &lse) in dout.outer_iter().zip(out.outer_iter()).zip(lse) {
                    let inner: F = match (dout.as_slice(), out.as_slice()) {
                        (Some(dout), Some(out)) => simd::dot(dout, out),
                        _ => dout.iter().zip(out).map(|(&x, &y)| x * y).sum(),
                    };
                    *sum -= ((sink - lse).fast_exp() * inner).as_f64();
                }
            });
    }
    Ok(sums.mapv(F::from_f64))
}

/// `ln(e^x + e^y)`; exactly the other one if one of them is `-inf`, NaN if one is NaN.
fn log_add_exp<F: Float>(x: F, y: F) -> F {
    let (low, high) = if x < y { (x, y) } else { (y, x) };
    if low == F::neg_infinity() {
        return high;
    }
    high + (low - high).exp().ln_1p()
}

fn check_sinks<F>(
    out: &ArrayRef4<F>,
    lse: &ArrayRef3<F>,
    sinks: &ArrayRef1<F>,
) -> Result<(), AttentionError> {
    let (batch, n_heads, seq, _) = out.dim();
    check_lse([batch, n_heads, seq], lse)?;
    if sinks.len() == n_heads {
        Ok(())
    } else {
        Err(AttentionError::Sinks {
            n_heads,
            got: sinks.len(),
        })
    }
}
