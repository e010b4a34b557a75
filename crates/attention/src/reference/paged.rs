//! Paged attention as a gather: the pages of a sequence in one array, and then the textbook.

use ndarray::{Array3, Array4, ArrayRef1, ArrayRef2, ArrayRef3, ArrayRef4, Axis, s};

use super::attention;
use crate::{AttentionConfig, AttentionError};

/// `softmax(scale Q K^T + mask) V` of each sequence and head, with `K` and `V` gathered from pages.
///
/// # Shapes
///
/// As [`paged::forward_with_lse`](crate::paged::forward_with_lse):
///
/// - `q`: `[batch, n_heads, seq, head_dim]`
/// - `k`, `v`: `[n_pages, n_kv_heads, page_size, features]`, `block_table`: `[batch, max_pages]`,
///   `lengths`: `[batch]`
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// # Errors
///
/// [`AttentionError`] for arrays that do not fit each other, and for a config that is refused.
///
/// # Panics
///
/// If the table or the lengths are not as [`paged::forward`](crate::paged::forward) asks.
pub fn forward(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    block_table: &ArrayRef2<u32>,
    lengths: &ArrayRef1<u32>,
    config: &AttentionConfig,
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    let (batch, n_heads, seq, _) = q.dim();
    let mut out = Array4::zeros((batch, n_heads, seq, v.dim().3));
    let mut lse = Array3::zeros((batch, n_heads, seq));
    for b in 0..batch {
        let pages: Vec<usize> = block_table
            .row(b)
            .iter()
            .map(|&page| page as usize)
            .collect();
        let q = q.slice(s![b..b + 1, .., .., ..]);
        let k = gather(k, &pages, lengths[b] as usize);
        let v = gather(v, &pages, lengths[b] as usize);
        let (row, row_lse) = attention::forward(&q, &k, &v, config)?;
        out.slice_mut(s![b..b + 1, .., .., ..]).assign(&row);
        lse.slice_mut(s![b..b + 1, .., ..]).assign(&row_lse);
    }
    Ok((out, lse))
}

/// The first `length` tokens that a list of pages holds: `[1, n_kv_heads, length, features]`.
fn gather(pool: &ArrayRef4<f64>, pages: &[usize], length: usize) -> Array4<f64> {
    let (_, n_kv_heads, page_size, features) = pool.dim();
    Array4::from_shape_fn((1, n_kv_heads, length, features), |(_, h, t, d)| {
        pool[[pages[t / page_size], h, t % page_size, d]]
    })
}

/// Pages of 8-bit integers as numbers: `scales[page, head, place]` times each integer.
///
/// # Shapes
///
/// - `pages`: `[n_pages, n_kv_heads, page_size, features]`
/// - `scales`: `[n_pages, n_kv_heads, page_size]`
///
/// # Panics
///
/// If the shapes do not fit.
#[must_use]
pub fn dequantize(pages: &ArrayRef4<i8>, scales: &ArrayRef3<f32>) -> Array4<f64> {
    let scales = scales.mapv(f64::from).insert_axis(Axis(3));
    pages.mapv(f64::from) * scales
}
