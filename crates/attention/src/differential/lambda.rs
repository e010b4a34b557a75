//! The weight of the second softmax, made from four learned vectors.

use ndarray::{Array1, ArrayRef1};

use crate::{AttentionError, memory};
use llm_numerics::Float;

/// The gradients of [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For `lambda_q1` and `lambda_q2`: `[head_dim]` each.
    pub dq: [Array1<F>; 2],
    /// For `lambda_k1` and `lambda_k2`: `[head_dim]` each.
    pub dk: [Array1<F>; 2],
}

/// What `lambda` starts from in a layer: small in the first, near 0.8 in late ones.
///
/// ```text
/// lambda_init = 0.8 - 0.6 e^(-0.3 layer)
/// ```
///
/// `layer` counts from 0, as in transformers; the paper counts from 1 and subtracts it.
///
/// # Example
///
/// ```
/// use llm_attention::differential::lambda;
///
/// assert!((lambda::init(0) - 0.2).abs() < 1e-15);
/// assert!(lambda::init(20) > 0.79);
/// ```
///
/// Source: Ye et al., arXiv:2410.05258v2, section 2.1; `lambda_init_fn` of transformers 5.23.0.
#[must_use]
pub fn init(layer: usize) -> f64 {
    0.8 - 0.6 * (-0.3 * layer as f64).exp()
}

/// The weight `lambda` of the second softmax.
///
/// ```text
/// lambda = e^<q1, k1> - e^<q2, k2> + lambda_init
/// ```
///
/// # Shapes
///
/// - `q`: `lambda_q1` and `lambda_q2`, `k`: `lambda_k1` and `lambda_k2`, all `[head_dim]`
/// - returns: a number for all heads
///
/// # Errors
///
/// - [`AttentionError::LambdaVectors`] if the vectors have different lengths.
/// - [`AttentionError::LambdaInit`] if `lambda_init` is not finite.
///
/// # Precision
///
/// In `f64`, rounded once. May be infinite if the products are large.
///
/// # Example
///
/// ```
/// use llm_attention::differential::lambda;
/// use ndarray::array;
///
/// let (a, b, zero) = (array![1.0, 2.0], array![0.5, 0.25], array![0.0, 0.0]);
/// let got = lambda::forward([&a, &zero], [&b, &b], 0.2)?;
/// assert!((got - (1_f64.exp() - 1.0 + 0.2)).abs() < 1e-15);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Ye et al., arXiv:2410.05258v2, section 2.1.
pub fn forward<F: Float>(
    q: [&ArrayRef1<F>; 2],
    k: [&ArrayRef1<F>; 2],
    lambda_init: f64,
) -> Result<F, AttentionError> {
    if !lambda_init.is_finite() {
        return Err(AttentionError::LambdaInit { got: lambda_init });
    }
    let [first, second] = exponentials(q, k)?;
    Ok(F::from_f64(first - second + lambda_init))
}

/// The gradients of [`forward`].
///
/// ```text
/// dq1 =  dlambda e^<q1, k1> k1,   dk1 =  dlambda e^<q1, k1> q1
/// dq2 = -dlambda e^<q2, k2> k2,   dk2 = -dlambda e^<q2, k2> q2
/// ```
///
/// # Shapes
///
/// - `dlambda`: summed over the heads
/// - `q`, `k`: as in [`forward`]
/// - returns: two arrays shaped as `q`, two as `k`
///
/// # Errors
///
/// [`AttentionError::LambdaVectors`] if the vectors have different lengths.
///
/// # Precision
///
/// In `f64`, rounded once.
///
/// # Example
///
/// ```
/// use llm_attention::differential::lambda;
/// use ndarray::array;
///
/// let (a, b) = (array![2.0], array![0.0]); // all products are 0
/// let got = lambda::backward(3.0, [&a, &a], [&b, &b])?;
/// assert_eq!(got.dk, [array![6.0], array![-6.0]]);
/// assert_eq!(got.dq, [array![0.0], array![0.0]]);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
pub fn backward<F: Float>(
    dlambda: F,
    q: [&ArrayRef1<F>; 2],
    k: [&ArrayRef1<F>; 2],
) -> Result<Gradients<F>, AttentionError> {
    let [first, second] = exponentials(q, k)?;
    let times = |weight: f64, x: &ArrayRef1<F>| {
        let weight = weight * dlambda.as_f64();
        x.mapv(|x| F::from_f64(weight * x.as_f64()))
    };
    Ok(Gradients {
        dq: [times(first, k[0]), times(-second, k[1])],
        dk: [times(first, q[0]), times(-second, q[1])],
    })
}

/// `e^<q, k>` of both pairs.
fn exponentials<F: Float>(
    q: [&ArrayRef1<F>; 2],
    k: [&ArrayRef1<F>; 2],
) -> Result<[f64; 2], AttentionError> {
    let lengths = [q[0].len(), k[0].len(), q[1].len(), k[1].len()];
    if lengths.iter().any(|&length| length != lengths[0]) {
        return Err(AttentionError::LambdaVectors { got: lengths });
    }
    memory::fits::<F>([1, 1, 1, lengths[0]])?;
    let product = |m: usize| {
        let terms = q[m].iter().zip(k[m]);
        terms.map(|(x, y)| x.as_f64() * y.as_f64()).sum::<f64>()
    };
    Ok([product(0).exp(), product(1).exp()])
}
