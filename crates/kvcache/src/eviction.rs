//! Which tokens to keep when there are too many: functions from scores to indices, without a cache.
//!
//! Each returns rising indices, as [`PagedCache::retain`](crate::PagedCache::retain) and an `index_select` of any other
//! library take them. The caller knows the attention weights; a cache does not.

mod heavy_hitters;
mod snapkv;
mod window;

pub use heavy_hitters::{accumulate, heavy_hitters};
pub use snapkv::{SnapKvConfig, snapkv};
pub use window::window;

use std::cmp::Ordering;

use crate::KvCacheError;

/// Indices of the `n` largest scores, rising; of equal ones the later token, which is likelier to matter.
fn largest(scores: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| {
        // Zeros of both signs are equal here, as they would not be to `total_cmp`; NaN was refused before.
        let by_score = scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal);
        by_score.then(b.cmp(&a))
    });
    order.truncate(n);
    order.sort_unstable();
    order
}

/// Refuses scores that have no order.
fn check_numbers(scores: &[f64]) -> Result<(), KvCacheError> {
    match scores.iter().position(|x| x.is_nan()) {
        Some(token) => Err(KvCacheError::ScoreNan { token }),
        None => Ok(()),
    }
}
