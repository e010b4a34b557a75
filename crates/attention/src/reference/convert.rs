//! Pooling of heads as array shapes have it: give each group an axis and average over it.

use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, Axis};

use crate::AttentionError;

/// The mean over the heads of each group.
///
/// ```text
/// [n_heads * head_dim, d_model] = [n_kv_heads, group, head_dim, d_model]  -- mean over group
/// ```
///
/// # Shapes
///
/// - `weight`: `[n_heads * head_dim, d_model]`
/// - returns: `[n_kv_heads * head_dim, d_model]`
///
/// # Errors
///
/// As [`convert::mean_pool_kv_heads`](crate::convert::mean_pool_kv_heads).
///
/// Source: Ainslie et al., arXiv:2305.13245v3, section 2.1.
pub fn mean_pool_kv_heads(
    weight: &ArrayRef2<f64>,
    n_heads: usize,
    n_kv_heads: usize,
) -> Result<Array2<f64>, AttentionError> {
    let (rows, d_model) = weight.dim();
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
    let (group, head_dim) = (n_heads / n_kv_heads, rows / n_heads);
    let uneven = AttentionError::HeadRows { rows, n_heads };
    if head_dim * n_heads != rows {
        return Err(uneven);
    }
    let heads = weight.to_shape((n_kv_heads, group, head_dim, d_model));
    let pooled = heads.map_err(|_| uneven.clone())?.sum_axis(Axis(1)) / group as f64;
    let pooled = pooled.into_shape_with_order((n_kv_heads * head_dim, d_model));
    pooled.map_err(|_| uneven)
}

/// [`mean_pool_kv_heads`] of a bias, `[n_heads * head_dim]`.
///
/// # Errors
///
/// As [`mean_pool_kv_heads`].
pub fn mean_pool_kv_bias(
    bias: &ArrayRef1<f64>,
    n_heads: usize,
    n_kv_heads: usize,
) -> Result<Array1<f64>, AttentionError> {
    let weight = bias.view().insert_axis(Axis(1));
    let pooled = mean_pool_kv_heads(&weight, n_heads, n_kv_heads)?;
    Ok(pooled.column(0).to_owned())
}
