//! A shared prefix as everyone writes it first: copied before the keys of each sequence.

use ndarray::{Array2, Array3, Array4, ArrayRef3, ArrayRef4, s};

use super::attention::{Extras, attend, gradients, mask_matrix};
use crate::prefix::Gradients;
use crate::{AttentionConfig, AttentionError};

/// Attention to `[prefix_k; k]` and `[prefix_v; v]`, the mask extended to the left by columns of *may look*.
///
/// # Shapes
///
/// As [`prefix::forward`](crate::prefix::forward).
///
/// # Errors
///
/// As [`prefix::forward`](crate::prefix::forward), but tiles do not matter.
///
/// Source: Li and Liang, arXiv:2101.00190v1, section 4.
pub fn forward(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    prefix_k: &ArrayRef3<f64>,
    prefix_v: &ArrayRef3<f64>,
    config: &AttentionConfig,
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    let (all_k, all_v) = join_both(k, v, prefix_k, prefix_v)?;
    let sees = |seq, _| extended(config, seq, prefix_k.dim().1, k.dim().2);
    attend([q, &all_k, &all_v], config, sees, &Extras::default())
}

/// The gradients of [`forward`]: those of the joined arrays, taken apart, the prefix's summed over the batch.
///
/// # Shapes
///
/// As [`prefix::backward`](crate::prefix::backward).
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` has another shape.
pub fn backward(
    dout: &ArrayRef4<f64>,
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    prefix_k: &ArrayRef3<f64>,
    prefix_v: &ArrayRef3<f64>,
    config: &AttentionConfig,
) -> Result<Gradients<f64>, AttentionError> {
    let (all_k, all_v) = join_both(k, v, prefix_k, prefix_v)?;
    let prefix = prefix_k.dim().1;
    let sees = |seq, _| extended(config, seq, prefix, k.dim().2);
    let all = gradients(dout, [q, &all_k, &all_v], config, sees, &Extras::default())?.inputs;
    let of_prefix = |x: &Array4<f64>| {
        let (batch, heads, _, width) = x.dim();
        Array3::from_shape_fn((heads, prefix, width), |(h, j, d)| {
            (0..batch).map(|b| x[[b, h, j, d]]).sum()
        })
    };
    Ok(Gradients {
        dprefix_k: of_prefix(&all.dk),
        dprefix_v: of_prefix(&all.dv),
        dk: all.dk.slice(s![.., .., prefix.., ..]).to_owned(),
        dv: all.dv.slice(s![.., .., prefix.., ..]).to_owned(),
        dq: all.dq,
    })
}

/// The mask of the keys, with `prefix` columns before it that all may look at.
fn extended(config: &AttentionConfig, seq: usize, prefix: usize, kv_seq: usize) -> Array2<bool> {
    let own = mask_matrix(config.mask, seq, kv_seq);
    Array2::from_shape_fn((seq, prefix + kv_seq), |(i, j)| {
        j < prefix || own[[i, j - prefix]]
    })
}

fn join_both(
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    prefix_k: &ArrayRef3<f64>,
    prefix_v: &ArrayRef3<f64>,
) -> Result<(Array4<f64>, Array4<f64>), AttentionError> {
    let length = prefix_k.dim().1;
    let all_k = join("prefix_k", length, prefix_k, k)?;
    // The heads that values should have are those of the keys.
    Ok((all_k, join("prefix_v", length, prefix_v, v)?))
}

fn join(
    name: &'static str,
    length: usize,
    prefix: &ArrayRef3<f64>,
    own: &ArrayRef4<f64>,
) -> Result<Array4<f64>, AttentionError> {
    let (batch, heads, kv_seq, width) = own.dim();
    let (expected, got) = ([heads, length, width], prefix.dim().into());
    if got != expected {
        return Err(AttentionError::PrefixShape {
            name,
            expected,
            got,
        });
    }
    let shape = (batch, heads, length + kv_seq, width);
    Ok(Array4::from_shape_fn(shape, |(b, h, j, d)| {
        if j < length {
            prefix[[h, j, d]]
        } else {
            own[[b, h, j - length, d]]
        }
    }))
}
