//! The norm of each head of differential attention, without a weight.

use ndarray::{Array4, ArrayRef4, ArrayView1, ArrayViewMut1, ArrayViewMut2};

use crate::AttentionError;
use crate::flash::{check, zeros};
use llm_numerics::{Float, threads};

/// Elements from which on threads are woken.
const PARALLEL: usize = 1 << 18;

/// Each head's result divided by its root mean square, times `1 - lambda_init`.
///
/// ```text
/// y = (1 - lambda_init) x / sqrt(mean(x^2) + eps)
/// ```
///
/// over the features of one token in one head. The paper calls it `GroupNorm`; it has neither mean nor
/// weight. The factor makes gradients as large as those of usual attention.
///
/// # Shapes
///
/// - `x`: `[batch, n_heads, seq, value_dim]`, any strides; heads are counted in pairs here
/// - returns: the same
///
/// # Errors
///
/// - [`AttentionError::LambdaInit`] if `lambda_init` is not finite.
/// - [`AttentionError::Eps`] if `eps` is negative or not finite.
/// - [`AttentionError::TooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// The root is taken in `f64` of numbers relative to the largest, so no square overflows or
/// vanishes. A row of zeros stays zero if `eps > 0` and becomes NaN if it is 0; a row with NaN or
/// infinity becomes NaN.
///
/// # Example
///
/// ```
/// use llm_attention::differential::head_norm;
/// use ndarray::array;
///
/// let y = head_norm::forward(&array![[[[3.0, -3.0]]]], 0.2, 0.0)?;
/// assert_eq!(y, array![[[[0.8, -0.8]]]]);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Ye et al., arXiv:2410.05258v2, section 2.1; `groupnorm` in `DiffLlamaAttention` of
/// transformers 5.23.0, whose `eps` is the model's `rms_norm_eps`.
pub fn forward<F: Float>(
    x: &ArrayRef4<F>,
    lambda_init: f64,
    eps: f64,
) -> Result<Array4<F>, AttentionError> {
    check_numbers(lambda_init, eps)?;
    let mut out = zeros(x.dim().into())?;
    for_each_row(&mut out, x, x, |mut out, x, _| {
        let root = root_mean_square(x, eps);
        out.zip_mut_with(&x, |out, x| {
            *out = F::from_f64((1.0 - lambda_init) * (x.as_f64() / root));
        });
    });
    Ok(out)
}

/// The gradient of [`forward`].
///
/// With `r = sqrt(mean(x^2) + eps)` and `n = x / r`:
///
/// ```text
/// dx = (1 - lambda_init) / r (dout - n mean(dout n))
/// ```
///
/// # Shapes
///
/// - `dout`, `x`: `[batch, n_heads, seq, value_dim]`
/// - returns: the same
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` is not shaped as `x`.
///
/// # Precision
///
/// Each row in `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_attention::differential::head_norm;
/// use ndarray::array;
///
/// // Longer or shorter along itself, a row has the same norm: no gradient.
/// let x: ndarray::Array4<f64> = array![[[[3.0, 4.0]]]];
/// let dx = head_norm::backward(&x, &x, 0.2, 0.0)?;
/// assert!(dx.iter().all(|dx| dx.abs() < 1e-15));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
pub fn backward<F: Float>(
    dout: &ArrayRef4<F>,
    x: &ArrayRef4<F>,
    lambda_init: f64,
    eps: f64,
) -> Result<Array4<F>, AttentionError> {
    check_numbers(lambda_init, eps)?;
    check("dout", x.dim().into(), dout)?;
    let mut dx = zeros(x.dim().into())?;
    for_each_row(&mut dx, dout, x, |mut dx, dout, x| {
        let root = root_mean_square(x, eps);
        let products = dout.iter().zip(x);
        let sum: f64 = products
            .map(|(d, x)| d.as_f64() * (x.as_f64() / root))
            .sum();
        let mean = sum / x.len() as f64;
        for ((dx, dout), x) in dx.iter_mut().zip(dout).zip(x) {
            let inner = dout.as_f64() - x.as_f64() / root * mean;
            *dx = F::from_f64((1.0 - lambda_init) * (inner / root));
        }
    });
    Ok(dx)
}

/// `sqrt(mean(x^2) + eps)`.
fn root_mean_square<F: Float>(x: ArrayView1<'_, F>, eps: f64) -> f64 {
    let largest = x.iter().fold(0.0, |max: f64, x| max.max(x.as_f64().abs()));
    let is_zero = x.iter().all(|x| *x == F::zero());
    if is_zero {
        return eps.sqrt();
    }
    let squares = x.iter().map(|x| (x.as_f64() / largest).powi(2));
    let mean = squares.sum::<f64>() / x.len() as f64;
    (largest * mean.sqrt()).hypot(eps.sqrt())
}

/// Calls `work(row of out, row of a, row of b)` with each row.
fn for_each_row<F: Float>(
    out: &mut Array4<F>,
    a: &ArrayRef4<F>,
    b: &ArrayRef4<F>,
    work: impl Fn(ArrayViewMut1<'_, F>, ArrayView1<'_, F>, ArrayView1<'_, F>) + Sync + Send,
) {
    if out.is_empty() {
        return; // however many rows of nothing there are
    }
    let is_parallel = out.len() >= PARALLEL;
    let (_, n_heads, _, _) = out.dim();
    let heads = out.outer_iter_mut().flat_map(|x| x.into_outer_iter_mut());
    let heads: Vec<_> = heads.enumerate().collect();
    let run = |(index, mut out): (usize, ArrayViewMut2<'_, F>)| {
        let head = ndarray::s![index / n_heads, index % n_heads, .., ..];
        let (a, b) = (a.slice(head), b.slice(head));
        for ((out, a), b) in out.outer_iter_mut().zip(a.outer_iter()).zip(b.outer_iter()) {
            work(out, a, b);
        }
    };
    if is_parallel {
        threads::for_each(heads, run);
    } else {
        heads.into_iter().for_each(run);
    }
}

fn check_numbers(lambda_init: f64, eps: f64) -> Result<(), AttentionError> {
    if !lambda_init.is_finite() {
        return Err(AttentionError::LambdaInit { got: lambda_init });
    }
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(AttentionError::Eps { got: eps });
    }
    Ok(())
}
