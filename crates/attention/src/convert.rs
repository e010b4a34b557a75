//! Multi-head checkpoints turned into grouped-query and multi-query ones.

use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, Axis};

use crate::{AttentionError, memory};
use llm_numerics::Float;

/// The key or value projection of fewer heads: each the mean of the heads whose place it takes.
///
/// With `group = n_heads / n_kv_heads` neighboring heads for each that is left, and row
/// `h * head_dim + d` of the weight for feature `d` of head `h`:
///
/// ```text
/// pooled[g * head_dim + d, c] = 1/group sum_(m < group) weight[(g * group + m) * head_dim + d, c]
/// ```
///
/// Apply it to the weights of keys and of values; those of queries and of the output stay.
/// `n_kv_heads = 1` makes a multi-query checkpoint, `n_kv_heads = n_heads` changes nothing.
/// The result is a start for further training (the paper takes 5 % of the steps
/// of the original), not the same model, unless the heads of each group were equal.
///
/// Rotary keys: pooling commutes with a rotation that is the same for all heads.
///
/// # Shapes
///
/// - `weight`: `[n_heads * head_dim, d_model]`, any strides; as `torch.nn.Linear` stores it
/// - returns: `[n_kv_heads * head_dim, d_model]`
///
/// # Errors
///
/// - [`AttentionError::NoHeads`] if `n_heads` or `n_kv_heads` is 0.
/// - [`AttentionError::Heads`] if `n_heads` is not a multiple of `n_kv_heads`.
/// - [`AttentionError::HeadRows`] if the rows are not a multiple of `n_heads`.
/// - [`AttentionError::TooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// The sum of a group is in `f64` and is rounded once, so in `f32` the mean of finite
/// weights is finite. NaN and infinity come through.
///
/// # Example
///
/// ```
/// use llm_attention::convert;
/// use ndarray::array;
///
/// // Four heads of one feature each, to two.
/// let weight = array![[1.0, 0.0], [3.0, 0.0], [0.0, 5.0], [0.0, 7.0]];
/// let pooled = convert::mean_pool_kv_heads(&weight, 4, 2)?;
/// assert_eq!(pooled, array![[2.0, 0.0], [0.0, 6.0]]);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Ainslie et al., arXiv:2305.13245v3, section 2.1.
pub fn mean_pool_kv_heads<F: Float>(
    weight: &ArrayRef2<F>,
    n_heads: usize,
    n_kv_heads: usize,
) -> Result<Array2<F>, AttentionError> {
    let (rows, d_model) = weight.dim();
    let (head_dim, group) = check(rows, n_heads, n_kv_heads)?;
    memory::fits::<F>([1, n_kv_heads, head_dim, d_model])?;
    memory::fits::<F>([1, 1, rows, d_model])?;
    let mut pooled = Array2::zeros((n_kv_heads * head_dim, d_model)); // at most `rows`
    if pooled.is_empty() {
        return Ok(pooled);
    }
    let mut sum = vec![0.0; d_model];
    for (index, mut pooled) in pooled.outer_iter_mut().enumerate() {
        let (kv_head, d) = (index / head_dim, index % head_dim);
        let row = |m: usize| weight.row((kv_head * group + m) * head_dim + d);
        for (sum, x) in sum.iter_mut().zip(row(0)) {
            *sum = x.as_f64(); // not added to zero, which would turn -0 into 0
        }
        for m in 1..group {
            for (sum, x) in sum.iter_mut().zip(row(m)) {
                *sum += x.as_f64();
            }
        }
        for (pooled, sum) in pooled.iter_mut().zip(&sum) {
            *pooled = F::from_f64(sum / group as f64);
        }
    }
    Ok(pooled)
}

/// [`mean_pool_kv_heads`] of a projection's bias.
///
/// ```text
/// pooled[g * head_dim + d] = 1/group sum_(m < group) bias[(g * group + m) * head_dim + d]
/// ```
///
/// # Shapes
///
/// - `bias`: `[n_heads * head_dim]`, any stride
/// - returns: `[n_kv_heads * head_dim]`
///
/// # Errors
///
/// As [`mean_pool_kv_heads`].
///
/// # Precision
///
/// As [`mean_pool_kv_heads`].
///
/// # Example
///
/// ```
/// use llm_attention::convert;
/// use ndarray::array;
///
/// // Two heads of two features, to one.
/// let pooled = convert::mean_pool_kv_bias(&array![1.0, 10.0, 3.0, 30.0], 2, 1)?;
/// assert_eq!(pooled, array![2.0, 20.0]);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`mean_pool_kv_heads`]; the paper's model has no biases, so this is the same mean for those that have.
pub fn mean_pool_kv_bias<F: Float>(
    bias: &ArrayRef1<F>,
    n_heads: usize,
    n_kv_heads: usize,
) -> Result<Array1<F>, AttentionError> {
    let column = bias.view().insert_axis(Axis(1));
    let pooled = mean_pool_kv_heads(&column, n_heads, n_kv_heads)?;
    Ok(pooled.remove_axis(Axis(1)))
}

/// The features of a head, and the heads that become one.
fn check(rows: usize, n_heads: usize, n_kv_heads: usize) -> Result<(usize, usize), AttentionError> {
    if n_heads == 0 || n_kv_heads == 0 {
        return Err(AttentionError::NoHeads {
            n_heads,
            n_kv_heads,
        });
    }
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(AttentionError::Heads {
            n_heads,
            n_kv_heads,
        });
    }
    if !rows.is_multiple_of(n_heads) {
        return Err(AttentionError::HeadRows { rows, n_heads });
    }
    Ok((rows / n_heads, n_heads / n_kv_heads))
}
