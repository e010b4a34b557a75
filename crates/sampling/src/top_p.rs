//! Top-p (nucleus): the smallest set of tokens that has enough probability.

use core::cmp::Ordering;

use llm_numerics::{Float, simd};
use ndarray::ArrayRef2;

use crate::{Candidates, Context, Processor, SamplingError, rows};

/// From which end probabilities are summed, and so which of equal tokens remain.
///
/// In exact arithmetic both keep the most likely tokens up to and with the one whose
/// cumulative probability reaches `p`. They differ in which tokens of *equal* probability
/// are in that set, and where a sum lies within rounding of `p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SumFrom {
    /// Least likely first; dropped while the sum is at most `1 - p`: Hugging Face, vLLM.
    /// Of equals, the lower ids are dropped first.
    Smallest,
    /// Most likely first; kept until the sum is at least `p`: llama.cpp, the paper.
    /// Of equals, the lower ids are kept first.
    Largest,
}

/// Masks all but the smallest set of tokens whose probabilities sum to `p`, as Hugging Face does.
///
/// ```text
/// q = softmax(x), in ascending order (equals by ascending id)
/// x_i <- -inf  where q_1 + .. + q_i <= 1 - p, but for the last min_tokens_to_keep
/// ```
///
/// The token that crosses `p` is kept. `p = 1` keeps everything. This is
/// [`apply_sum_inplace`] with [`SumFrom::Smallest`].
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, any strides
///
/// # Errors
///
/// - [`SamplingError::TopP`] if `p` is not in `(0, 1]`. (Hugging Face allows 0, which keeps
///   `min_tokens_to_keep` tokens.)
/// - [`SamplingError::MinTokensToKeep`] if that is 0; 1 is the usual value.
/// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`],
///   [`SamplingError::MaskedRow`], [`SamplingError::Vocab`].
///
/// On an error, the logits are unchanged.
///
/// # Precision
///
/// `e^(x_i - max)` is computed in `F` (2 units in the last place for `f32`) and summed in
/// `f64`, so that a token is kept or dropped rightly unless its cumulative probability is
/// within `1e-6` (`f32`) of the bound. Logits that stay are unchanged.
///
/// # Example
///
/// ```
/// use llm_sampling::top_p;
/// use ndarray::array;
///
/// const MASKED: f64 = f64::NEG_INFINITY;
/// // Probabilities 0.5, 0.25, 0.125, 0.125.
/// let mut logits = array![[0.0_f64, -1.0, -2.0, -2.0]] * 2_f64.ln();
/// let kept = logits[[0, 1]];
/// top_p::apply_inplace(&mut logits, 0.7, 1)?; // 0.5 is not enough
/// assert_eq!(logits, array![[0.0, kept, MASKED, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Holtzman et al. 2019, arXiv:1904.09751v2 §3.1; `TopPLogitsWarper` of
/// transformers 5.23.
pub fn apply_inplace<F: Float>(
    logits: &mut ArrayRef2<F>,
    p: f64,
    min_tokens_to_keep: usize,
) -> Result<(), SamplingError> {
    apply_sum_inplace(logits, p, SumFrom::Smallest, min_tokens_to_keep)
}

/// [`apply_inplace`] with a choice of the end that the sum starts from.
///
/// ```text
/// Smallest: as above
/// Largest:  q = softmax(x), in descending order (equals by ascending id)
///           x_i <- -inf  where q_1 + .. + q_(i-1) >= p, but for the first min_tokens_to_keep
/// ```
///
/// # Errors
///
/// Those of [`apply_inplace`].
///
/// # Example
///
/// ```
/// use llm_sampling::top_p::{self, SumFrom};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let mut logits = array![[5.0_f32, 5.0, 5.0, 5.0]];
/// top_p::apply_sum_inplace(&mut logits, 0.4, SumFrom::Largest, 1)?;
/// assert_eq!(logits, array![[5.0, 5.0, MASKED, MASKED]]);
///
/// let mut logits = array![[5.0_f32, 5.0, 5.0, 5.0]];
/// top_p::apply_sum_inplace(&mut logits, 0.4, SumFrom::Smallest, 1)?;
/// assert_eq!(logits, array![[MASKED, MASKED, 5.0, 5.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn apply_sum_inplace<F: Float>(
    logits: &mut ArrayRef2<F>,
    p: f64,
    sum_from: SumFrom,
    min_tokens_to_keep: usize,
) -> Result<(), SamplingError> {
    validate(p)?;
    if min_tokens_to_keep == 0 {
        return Err(SamplingError::MinTokensToKeep(min_tokens_to_keep));
    }
    let mut scratch = Scratch::default();
    rows::try_for_each_mut(
        logits,
        |row| rows::finite_max(row).map(|_| ()),
        |row| mask(row, p, sum_from, min_tokens_to_keep, &mut scratch),
    )
}

/// [`apply_sum_inplace`] as a processor.
///
/// # Example
///
/// ```
/// use llm_sampling::top_p::{SumFrom, TopP};
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[0.0_f32, 3.0, 3.0]];
/// let top_p = TopP::new(0.9, SumFrom::Smallest, 1)?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &top_p)?;
/// assert_eq!(logits, array![[f32::NEG_INFINITY, 3.0, 3.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: as for [`apply_inplace`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopP {
    p: f64,
    sum_from: SumFrom,
    min_tokens_to_keep: usize,
}

impl TopP {
    /// The filter; `min_tokens_to_keep` is usually 1.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::TopP`] if `p` is not in `(0, 1]`.
    /// - [`SamplingError::MinTokensToKeep`] if that is 0.
    pub fn new(
        p: f64,
        sum_from: SumFrom,
        min_tokens_to_keep: usize,
    ) -> Result<Self, SamplingError> {
        validate(p)?;
        if min_tokens_to_keep == 0 {
            return Err(SamplingError::MinTokensToKeep(min_tokens_to_keep));
        }
        Ok(Self {
            p,
            sum_from,
            min_tokens_to_keep,
        })
    }
}

impl<F: Float> Processor<F> for TopP {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        candidates.max()?;
        let (logits, scratch) = candidates.with_top_p();
        mask(
            logits,
            self.p,
            self.sum_from,
            self.min_tokens_to_keep,
            scratch,
        );
        candidates.compact();
        Ok(())
    }
}

pub(crate) fn validate(p: f64) -> Result<(), SamplingError> {
    if !(p > 0.0 && p <= 1.0) {
        return Err(SamplingError::TopP(p));
    }
    Ok(())
}

/// The memory of [`mask`], to be used again.
#[derive(Clone, Debug)]
pub(crate) struct Scratch<F> {
    weights: Vec<F>,
    head: Vec<Candidate>,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self {
            weights: Vec::new(),
            head: Vec::new(),
        }
    }
}

/// A token that has to be sorted, and `e^(x - max)`.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    logit: f64,
    weight: f64,
    token: usize,
}

/// How many nats below the maximum tokens are sorted, one try after the other. The last takes all.
const DEPTHS: [f64; 6] = [3.0, 6.0, 9.0, 12.0, 16.0, f64::INFINITY];

/// Masks a row that has a finite maximum; `min_tokens_to_keep` is at least 1.
///
/// Sorting a whole vocabulary is slow and of no use: nearly all tokens lie in a tail that is
/// dropped as a whole. So only a head of likely tokens is sorted, as soon as it is known to have enough.
pub(crate) fn mask<F: Float>(
    row: &mut [F],
    p: f64,
    sum_from: SumFrom,
    min_tokens_to_keep: usize,
    scratch: &mut Scratch<F>,
) {
    if p == 1.0 {
        return;
    }
    let Scratch { weights, head } = scratch;
    let max = weigh(row, weights);
    let total = sum_below(row, weights, F::infinity());
    for depth in DEPTHS {
        let cut = F::from_f64(max.as_f64() - depth);
        let tail = sum_below(row, weights, cut);
        let enough = match sum_from {
            SumFrom::Smallest => tail <= (1.0 - p) * total,
            SumFrom::Largest => total - tail >= p * total,
        };
        if !enough && depth.is_finite() {
            continue;
        }
        head.clear();
        for (token, (&x, w)) in row.iter().zip(weights.iter()).enumerate() {
            if x >= cut && x > F::neg_infinity() {
                head.push(Candidate {
                    logit: x.as_f64(),
                    weight: w.as_f64(),
                    token,
                });
            }
        }
        if head.len() < min_tokens_to_keep && depth.is_finite() {
            continue;
        }
        for x in row.iter_mut() {
            if *x < cut {
                *x = F::neg_infinity();
            }
        }
        mask_head(row, head, p, sum_from, min_tokens_to_keep, tail, total);
        return;
    }
}

/// Drops what is to be dropped of the sorted head; the tail, of mass `tail`, is gone already.
fn mask_head<F: Float>(
    row: &mut [F],
    head: &mut [Candidate],
    p: f64,
    sum_from: SumFrom,
    min_tokens_to_keep: usize,
    tail: f64,
    total: f64,
) {
    match sum_from {
        SumFrom::Smallest => {
            head.sort_unstable_by(ascending);
            let droppable = head.len().saturating_sub(min_tokens_to_keep);
            let bound = (1.0 - p) * total;
            let mut sum = tail;
            for candidate in &head[..droppable] {
                sum += candidate.weight;
                if sum > bound {
                    break;
                }
                row[candidate.token] = F::neg_infinity();
            }
        }
        SumFrom::Largest => {
            head.sort_unstable_by(descending);
            let bound = p * total;
            let mut sum = 0.0;
            for (rank, candidate) in head.iter().enumerate() {
                if rank >= min_tokens_to_keep && sum >= bound {
                    row[candidate.token] = F::neg_infinity();
                }
                sum += candidate.weight;
            }
        }
    }
}

/// Fills `weights` with `e^(x - max)` and returns the maximum.
fn weigh<F: Float>(row: &[F], weights: &mut Vec<F>) -> F {
    weights.clear();
    weights.extend_from_slice(row);
    simd::vectorize(
        #[inline(always)]
        || {
            let max = simd::max(row);
            for w in weights.iter_mut() {
                *w = (*w - max).fast_exp();
            }
            max
        },
    )
}

/// Sums the weights of logits below `cut` in `f64`, in a fixed order: 8 running sums, then one over them.
fn sum_below<F: Float>(row: &[F], weights: &[F], cut: F) -> f64 {
    simd::vectorize(
        #[inline(always)]
        || {
            let mut lanes = [0.0_f64; 8];
            for (row, weights) in row.chunks(8).zip(weights.chunks(8)) {
                for ((lane, &x), &w) in lanes.iter_mut().zip(row).zip(weights) {
                    *lane += if x < cut { w.as_f64() } else { 0.0 };
                }
            }
            lanes.iter().sum()
        },
    )
}

/// Least likely first, equals by id.
fn ascending(a: &Candidate, b: &Candidate) -> Ordering {
    let by_logit = a.logit.partial_cmp(&b.logit);
    by_logit
        .unwrap_or(Ordering::Equal)
        .then(a.token.cmp(&b.token))
}

/// Most likely first, equals by id.
fn descending(a: &Candidate, b: &Candidate) -> Ordering {
    let by_logit = b.logit.partial_cmp(&a.logit);
    by_logit
        .unwrap_or(Ordering::Equal)
        .then(a.token.cmp(&b.token))
}
