//! Best-of-n and self-consistency: one of several whole samples.

use std::collections::BTreeMap;

use crate::SamplingError;

/// How the log-probabilities of a sample's tokens become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SampleScore {
    /// Their sum: the likeliest sample, which favors short ones.
    Sum,
    /// Their mean: the likeliest per token (the lowest perplexity).
    Mean,
}

/// The score of each sample.
///
/// ```text
/// Sum: sum_i ln p_i,   Mean: (1 / n) sum_i ln p_i
/// ```
///
/// # Shapes
///
/// - `log_probabilities`: for each sample, those of its tokens
/// - returns: as many
///
/// # Errors
///
/// - [`SamplingError::EmptySample`] if one has no tokens.
/// - [`SamplingError::LogProbability`] if one is NaN or above 0; `-inf` is fine.
///
/// # Precision
///
/// Summed in order, in `f64`.
///
/// # Example
///
/// See [`best`].
pub fn scores<S: AsRef<[f64]>>(
    log_probabilities: &[S],
    score: SampleScore,
) -> Result<Vec<f64>, SamplingError> {
    let mut scores = Vec::with_capacity(log_probabilities.len());
    for (sample, tokens) in log_probabilities.iter().enumerate() {
        let tokens = tokens.as_ref();
        if tokens.is_empty() {
            return Err(SamplingError::EmptySample(sample));
        }
        for (position, &value) in tokens.iter().enumerate() {
            if !(value <= 0.0) {
                return Err(SamplingError::LogProbability {
                    sample,
                    position,
                    value,
                });
            }
        }
        let sum: f64 = tokens.iter().sum();
        scores.push(match score {
            SampleScore::Sum => sum,
            SampleScore::Mean => sum / tokens.len() as f64,
        });
    }
    Ok(scores)
}

/// The sample with the highest score; of equals, the first.
///
/// # Shapes
///
/// - `log_probabilities`: for each sample, those of its tokens
///
/// # Errors
///
/// [`SamplingError::NoSamples`], and those of [`scores`].
///
/// # Precision
///
/// That of [`scores`].
///
/// # Example
///
/// ```
/// use llm_sampling::search::best_of::{SampleScore, best};
///
/// let samples = [vec![-0.5, -0.5, -0.5], vec![-1.0]];
/// assert_eq!(best(&samples, SampleScore::Sum)?, 1);
/// assert_eq!(best(&samples, SampleScore::Mean)?, 0);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn best<S: AsRef<[f64]>>(
    log_probabilities: &[S],
    score: SampleScore,
) -> Result<usize, SamplingError> {
    let scores = scores(log_probabilities, score)?;
    first_max(&scores).ok_or(SamplingError::NoSamples)
}

/// The answer that won a vote.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Majority {
    /// The first sample with that answer.
    pub sample: usize,
    /// The weight of all samples with it; without weights, how many there are.
    pub weight: f64,
    /// The same as a share of all samples, those without an answer too.
    pub share: f64,
}

/// The answer that most samples have; of equals, the one that came first.
///
/// ```text
/// argmax_a sum_i [answer_i = a]
/// ```
///
/// An answer is what the caller reads from a sample, as a number at its end; `None` if there is none. Such samples do not vote, and do not win.
///
/// # Shapes
///
/// - `answers`: one for each sample
/// - returns: `None` if no sample has an answer
///
/// # Errors
///
/// [`SamplingError::NoSamples`].
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::search::best_of::majority;
///
/// let answers = [Some("18"), Some("26"), None, Some("18")];
/// let majority = majority(&answers)?.unwrap();
/// assert_eq!((majority.sample, majority.weight, majority.share), (0, 2.0, 0.5));
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Wang et al. 2022, arXiv:2203.11171v4 §2.
pub fn majority<K: Ord>(answers: &[Option<K>]) -> Result<Option<Majority>, SamplingError> {
    weighted_majority(answers, &vec![1.0; answers.len()])
}

/// [`majority`], where each sample has a weight, as its probability.
///
/// ```text
/// argmax_a sum_i w_i [answer_i = a]
/// ```
///
/// # Shapes
///
/// - `answers`, `weights`: one for each sample
/// - returns: `None` if no sample has an answer
///
/// # Errors
///
/// - [`SamplingError::NoSamples`], [`SamplingError::Axis`] if there are not as many weights.
/// - [`SamplingError::Weight`] if one is not finite, or below 0.
///
/// # Precision
///
/// Weights are summed in order, in `f64`; if all are 0, so is the share.
///
/// # Example
///
/// ```
/// use llm_sampling::search::best_of::weighted_majority;
///
/// let answers = [Some(18), Some(26), Some(18)];
/// let majority = weighted_majority(&answers, &[0.25, 0.625, 0.125])?.unwrap();
/// assert_eq!((majority.sample, majority.weight), (1, 0.625));
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Wang et al. 2022, arXiv:2203.11171v4, table 1.
pub fn weighted_majority<K: Ord>(
    answers: &[Option<K>],
    weights: &[f64],
) -> Result<Option<Majority>, SamplingError> {
    super::speculative::axis("weights", "samples", answers.len(), weights.len())?;
    if answers.is_empty() {
        return Err(SamplingError::NoSamples);
    }
    for (sample, &value) in weights.iter().enumerate() {
        if !(value.is_finite() && value >= 0.0) {
            return Err(SamplingError::Weight { sample, value });
        }
    }
    // Index of each answer among those that differ, in the order in which they came.
    let mut indices = BTreeMap::new();
    let mut votes: Vec<Majority> = Vec::new();
    for (sample, (answer, &weight)) in answers.iter().zip(weights).enumerate() {
        let Some(answer) = answer else { continue };
        let index = *indices.entry(answer).or_insert(votes.len());
        if index == votes.len() {
            votes.push(Majority {
                sample,
                weight: 0.0,
                share: 0.0,
            });
        }
        votes[index].weight += weight;
    }
    let sums: Vec<f64> = votes.iter().map(|vote| vote.weight).collect();
    let total: f64 = weights.iter().sum();
    Ok(first_max(&sums).map(|index| Majority {
        share: if total > 0.0 {
            votes[index].weight / total
        } else {
            0.0
        },
        ..votes[index]
    }))
}

/// The first of the largest; there are no NaN.
fn first_max(values: &[f64]) -> Option<usize> {
    let mut best = None;
    for (i, value) in values.iter().enumerate() {
        if best.is_none_or(|best: usize| *value > values[best]) {
            best = Some(i);
        }
    }
    best
}
