//! `SnapKV`: what the last queries of a prompt look at, and what lies around it.

use ndarray::ArrayRef3;

use super::{check_numbers, largest};
use crate::KvCacheError;

/// The settings of [`snapkv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapKvConfig {
    /// Tokens to keep in all.
    pub budget: usize,
    /// The last tokens of the prompt: they vote, and stay.
    pub observation: usize,
    /// Tokens over which the votes are pooled; odd.
    pub kernel: usize,
}

impl SnapKvConfig {
    /// Settings without defaults: the paper has windows of 16 to 64 and kernels of 5 to 13.
    #[must_use]
    pub fn new(budget: usize, observation: usize, kernel: usize) -> Self {
        Self {
            budget,
            observation,
            kernel,
        }
    }
}

/// Keeps the tokens of a prompt that its last queries look at, for one key-value head.
///
/// ```text
/// vote_i = Σ_heads Σ_queries weight[head, query, i]                for i < kv_seq - observation
/// pool_i = max { vote_j : |j - i| ≤ (kernel - 1) / 2 }
/// keep   = top_(budget - observation) pool ∪ the last observation tokens
/// ```
///
/// Pooling keeps what lies around a token that is looked at, so that a detail does not lose its
/// context. Pools over places before the first token or behind the last voted one take what there is.
/// Of equal pools the later token stays. If all tokens fit the budget, all stay.
///
/// # Shapes
///
/// - `weights`: `[heads, observation, kv_seq]`, the attention weights of the last `observation` queries, in the query
///   heads that share the key-value head (or in all, to decide for all together)
/// - returns: rising indices, `min(budget, kv_seq)` of them
///
/// # Errors
///
/// - [`KvCacheError::Setting`] if `kernel` is even, or `observation` is above `budget`.
/// - [`KvCacheError::Scores`] if the weights are not of `observation` queries, or of fewer keys than those.
/// - [`KvCacheError::ScoreNan`] if a weight that counts is NaN: not those of the observed tokens' own keys, which get no
///   votes, and none if all tokens fit the budget.
///
/// # Example
///
/// ```
/// use llm_kvcache::eviction::{SnapKvConfig, snapkv};
/// use ndarray::array;
///
/// // One head, the last query of eight tokens looks at token 1.
/// let weights = array![[[0.1, 0.5, 0.05, 0.02, 0.12, 0.01, 0.1, 0.1]]];
/// let config = SnapKvConfig::new(4, 1, 3);
/// assert_eq!(snapkv(&weights, &config)?, [0, 1, 2, 7]);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: Li et al., `SnapKV`, arXiv:2404.14469v2, section 4, with the max pooling of its experiments.
pub fn snapkv(weights: &ArrayRef3<f64>, config: &SnapKvConfig) -> Result<Vec<usize>, KvCacheError> {
    let SnapKvConfig {
        budget,
        observation,
        kernel,
    } = *config;
    let setting = |name, rule, got| Err(KvCacheError::Setting { name, rule, got });
    if kernel.is_multiple_of(2) {
        return setting("kernel", "odd", kernel);
    }
    if observation > budget {
        return setting("observation", "at most budget", observation);
    }
    let (heads, seq, kv_seq) = weights.dim();
    if seq != observation || kv_seq < observation {
        return Err(KvCacheError::Scores {
            name: "weights",
            expected: [heads, observation, kv_seq.max(observation)],
            got: [heads, seq, kv_seq],
        });
    }
    if kv_seq <= budget {
        return Ok((0..kv_seq).collect());
    }
    let older = kv_seq - observation;
    let mut votes = vec![0.0; older];
    for head in weights.outer_iter() {
        for row in head.outer_iter() {
            for (vote, weight) in votes.iter_mut().zip(row) {
                *vote += weight;
            }
        }
    }
    check_numbers(&votes)?;
    let half = kernel / 2;
    let pool = |i: usize| {
        let around = i.saturating_sub(half)..older.min(i.saturating_add(half + 1));
        votes[around]
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
    };
    let pools: Vec<f64> = (0..older).map(pool).collect();
    let mut keep = largest(&pools, budget - observation);
    keep.extend(older..kv_seq);
    Ok(keep)
}
