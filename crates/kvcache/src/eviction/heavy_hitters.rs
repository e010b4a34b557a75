//! H2O: tokens that have had the most attention so far, and the newest.

use ndarray::{ArrayRef2, ArrayRef3, Axis};

use super::{check_numbers, largest};
use crate::KvCacheError;

/// Keeps the `n_heavy` tokens with the largest scores among the older ones, and the last `n_recent`.
///
/// ```text
/// keep = top_n_heavy { score_i : i < len - n_recent } ∪ { i ≥ len - n_recent }
/// ```
///
/// The scores are attention weights summed over all queries so far ([`accumulate`]). Of equal scores the
/// later token stays. The paper decides for each head; for tokens that are kept or dropped in all heads
/// together, sum the scores over them.
///
/// # Shapes
///
/// - `scores`: one for each token
/// - returns: rising indices, at most `n_heavy + n_recent`
///
/// # Errors
///
/// [`KvCacheError::ScoreNan`] if a score is NaN.
///
/// # Example
///
/// ```
/// use llm_kvcache::eviction::heavy_hitters;
///
/// let scores = [0.9, 0.1, 0.7, 0.2, 0.8, 0.1];
/// assert_eq!(heavy_hitters(&scores, 2, 2)?, [0, 2, 4, 5]); // 0.9 and 0.7 of the older four
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: Zhang et al., H2O, arXiv:2306.14048v3, algorithm 1.
pub fn heavy_hitters(
    scores: &[f64],
    n_heavy: usize,
    n_recent: usize,
) -> Result<Vec<usize>, KvCacheError> {
    check_numbers(scores)?;
    let older = scores.len().saturating_sub(n_recent);
    let mut keep = largest(&scores[..older], n_heavy);
    keep.extend(older..scores.len());
    Ok(keep)
}

/// Adds the attention weights of new queries to the scores of tokens.
///
/// ```text
/// score_i ← score_i + Σ_heads Σ_queries weight[head, query, i]
/// ```
///
/// Tokens without a score begin at 0. Sums are taken in `f64`, heads and queries in their order.
///
/// # Shapes
///
/// - `scores`: at most one for each key; as many as there are keys afterwards
/// - `weights`: `[heads, seq, kv_seq]`, rows of a softmax
///
/// # Errors
///
/// [`KvCacheError::Scores`] if there are more scores than keys: then nothing is added.
///
/// # Example
///
/// ```
/// use llm_kvcache::eviction::accumulate;
/// use ndarray::array;
///
/// let mut scores = vec![];
/// accumulate(&mut scores, &array![[[1.0, 0.0], [0.25, 0.75]]])?;
/// accumulate(&mut scores, &array![[[0.5, 0.25, 0.25]]])?;
/// assert_eq!(scores, [1.75, 1.0, 0.25]);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: as [`heavy_hitters`].
pub fn accumulate(scores: &mut Vec<f64>, weights: &ArrayRef3<f64>) -> Result<(), KvCacheError> {
    let (heads, seq, kv_seq) = weights.dim();
    if scores.len() > kv_seq {
        return Err(KvCacheError::Scores {
            name: "weights",
            expected: [heads, seq, scores.len()],
            got: [heads, seq, kv_seq],
        });
    }
    scores.resize(kv_seq, 0.0);
    for head in weights.outer_iter() {
        add_rows(scores, &head);
    }
    Ok(())
}

fn add_rows(scores: &mut [f64], weights: &ArrayRef2<f64>) {
    for row in weights.axis_iter(Axis(0)) {
        for (score, weight) in scores.iter_mut().zip(row) {
            *score += weight;
        }
    }
}
