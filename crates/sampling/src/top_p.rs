//! Top-p (nucleus): the smallest set of tokens that has enough probability.

use llm_numerics::{Float, simd};
use ndarray::ArrayRef2;

use crate::{Candidates, Context, Processor, SamplingError, Scratch, processor, rows, select};

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
/// `e^(x_i - max)` is computed in `F` (2 units in the last place for `f32`), and summed in
/// `F` eight at a time and in `f64` from there, so that a token is kept or dropped rightly unless its cumulative probability is
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
    rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
    processor::replace_rows(logits, |_, row, candidates| {
        candidates.fill(row)?;
        keep(candidates, p, sum_from, min_tokens_to_keep)
    })
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
        rows::check_min_tokens_to_keep(min_tokens_to_keep)?;
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
        keep(candidates, self.p, self.sum_from, self.min_tokens_to_keep)
    }
}

pub(crate) fn validate(p: f64) -> Result<(), SamplingError> {
    if !(p > 0.0 && p <= 1.0) {
        return Err(SamplingError::TopP(p));
    }
    Ok(())
}

/// Buckets of the histogram of depths, a depth being how far below the maximum a logit lies.
const BUCKETS: usize = 1024;

/// Buckets in a nat. The last bucket has all that lies more than 16 nats below the maximum.
const PER_NAT: f64 = 64.0;

/// Keeps the smallest set of tokens with probability `p`, as [`apply_sum_inplace`] does; `p` and `min_tokens_to_keep` are checked.
///
/// Sorting a whole vocabulary is slow and of no use: a histogram of the weights by depth tells in which bucket the sum of probabilities
/// reaches the bound, what lies deeper is left out, and only the tokens of that bucket are sorted.
pub(crate) fn keep<F: Float>(
    candidates: &mut Candidates<F>,
    p: f64,
    sum_from: SumFrom,
    min_tokens_to_keep: usize,
) -> Result<(), SamplingError> {
    let max = candidates.max()?;
    if p == 1.0 {
        return Ok(());
    }
    let (logits, scratch) = candidates.with_scratch();
    let crossing = Crossing::find(logits, max, p, sum_from, scratch);
    let mut bound = crossing.bucket_bound(max);
    let mut least = bound;
    if min_tokens_to_keep > 1 {
        let n = min_tokens_to_keep.min(logits.len());
        least = select::kth_largest(logits, n, scratch);
        bound = if least < bound { least } else { bound };
    }
    candidates.keep_at_least(bound);
    let (logits, scratch) = candidates.with_scratch();
    let (mut cut, mut dropped) = crossing.cut(logits, max, sum_from, &mut scratch.indices);
    if min_tokens_to_keep > 1 {
        let n = min_tokens_to_keep.min(logits.len());
        let stay = logits.iter().filter(|x| **x >= cut).count() - dropped;
        if stay < n {
            cut = least;
            dropped = logits.iter().filter(|x| **x >= cut).count() - n;
        }
    }
    candidates.keep_some_at_least(cut, dropped, sum_from == SumFrom::Smallest);
    Ok(())
}

/// The depth of a logit as the number of its bucket, 0 for the maximum.
fn bucket<F: Float>(x: F, max: F) -> usize {
    let depth = (max - x) * F::from_f64(PER_NAT);
    let last = F::from_f64((BUCKETS - 1) as f64);
    let depth = if depth < last { depth } else { last };
    depth.round_small() as usize
}

/// A logit somewhat lower than those of the given depth, so that rounding of depths and weights does no harm.
fn below<F: Float>(max: F, depth: f64) -> F {
    F::from_f64(max.as_f64() - depth - 1e-3)
}

/// Where the sum of probabilities reaches the bound.
struct Crossing<F> {
    bucket: usize,
    /// What lies deeper is in no bucket, but in the sum.
    deepest: F,
    /// Sum of the weights before that bucket: of deeper ones ([`SumFrom::Smallest`]), or of less deep ones.
    sum: f64,
    /// The sum that is to be reached.
    goal: f64,
}

impl<F: Float> Crossing<F> {
    fn find(row: &[F], max: F, p: f64, sum_from: SumFrom, scratch: &mut Scratch<F>) -> Self {
        let Scratch {
            values: weights,
            sums,
            ..
        } = scratch;
        weights.resize(row.len(), F::zero());
        let total = weigh(row, max, weights);
        // Tokens more than d below the maximum weigh at most vocab e^-d, all together. With this d, that is 1 - p of the total at most, so that
        // the crossing is not among them.
        let depth = (row.len() as f64 / ((1.0 - p) * total)).ln();
        let deepest = below(max, depth);
        histogram(row, weights, max, deepest, sums);
        match sum_from {
            SumFrom::Smallest => {
                let outside = (total - sums.iter().sum::<f64>()).max(0.0);
                let goal = (1.0 - p) * total;
                let sums = sums.iter().enumerate().rev();
                let (bucket, sum) = reach(sums, outside, |sum| sum > goal);
                Self {
                    bucket,
                    deepest,
                    sum,
                    goal,
                }
            }
            SumFrom::Largest => {
                let goal = p * total;
                let (bucket, sum) = reach(sums.iter().enumerate(), 0.0, |sum| sum >= goal);
                Self {
                    bucket,
                    deepest,
                    sum,
                    goal,
                }
            }
        }
    }

    /// A logit below all of the bucket's.
    fn bucket_bound(&self, max: F) -> F {
        if self.bucket == BUCKETS - 1 {
            F::neg_infinity()
        } else {
            below(max, (self.bucket + 1) as f64 / PER_NAT)
        }
    }

    /// The smallest logit that stays, and how many tokens with the same logit do not: those with the lowest ids, or ([`SumFrom::Largest`])
    /// with the highest.
    fn cut(&self, row: &[F], max: F, sum_from: SumFrom, indices: &mut Vec<u32>) -> (F, usize) {
        let logit = |i: u32| row[i as usize];
        indices.clear();
        // vocab is at most 2^32
        indices.extend(
            (0..row.len() as u32)
                .filter(|&i| logit(i) >= self.deepest && bucket(logit(i), max) == self.bucket),
        );
        let ascending = sum_from == SumFrom::Smallest;
        indices.sort_unstable_by(|&i, &j| {
            let (x, y) = if ascending { (j, i) } else { (i, j) };
            select::descending(logit(x), logit(y)).then(i.cmp(&j))
        });
        // There is a token: the weight of the bucket is above zero. One stays, even if rounding leaves the bound uncrossed.
        let mut sum = self.sum;
        let crosses = |&i: &u32| {
            sum += (logit(i) - max).fast_exp().as_f64();
            if ascending {
                sum > self.goal
            } else {
                sum >= self.goal
            }
        };
        let last = indices.len().saturating_sub(1);
        let crossing = indices.iter().position(crosses).unwrap_or(last);
        let cut = indices.get(crossing).map_or(max, |&i| logit(i));
        let dropped = if ascending {
            indices.get(..crossing)
        } else {
            indices.get(crossing + 1..)
        };
        let dropped = dropped.unwrap_or_default();
        (cut, dropped.iter().filter(|&&i| logit(i) == cut).count())
    }
}

/// The first of the buckets with which the sum meets the bound, and the sum before it; the last one if none does.
fn reach<'a>(
    buckets: impl Iterator<Item = (usize, &'a f64)>,
    mut sum: f64,
    meets: impl Fn(f64) -> bool,
) -> (usize, f64) {
    let mut last = (0, sum);
    for (bucket, weight) in buckets {
        if *weight > 0.0 {
            last = (bucket, sum);
            sum += weight;
            if meets(sum) {
                break;
            }
        }
    }
    last
}

/// Fills in `e^(x - max)`, and returns the sum: of eight numbers in `F`, of those sums in `f64`.
fn weigh<F: Float>(row: &[F], max: F, weights: &mut [F]) -> f64 {
    simd::vectorize(
        #[inline(always)]
        || {
            let mut total = [0.0_f64; 8];
            let (blocks, rest) = row.as_chunks::<64>();
            let (weight_blocks, weight_rest) = weights.as_chunks_mut::<64>();
            for (block, weights) in blocks.iter().zip(weight_blocks) {
                let mut sums = [F::zero(); 8];
                let (eights, _) = block.as_chunks::<8>();
                let (weights, _) = weights.as_chunks_mut::<8>();
                for (eight, weights) in eights.iter().zip(weights) {
                    // A copy, so that the compiler sees that nothing overlaps.
                    let mut eight = *eight;
                    for (x, sum) in eight.iter_mut().zip(&mut sums) {
                        *x = (*x - max).fast_exp();
                        *sum += *x;
                    }
                    *weights = eight;
                }
                for (total, sum) in total.iter_mut().zip(sums) {
                    *total += sum.as_f64();
                }
            }
            for (&x, weight) in rest.iter().zip(weight_rest) {
                *weight = (x - max).fast_exp();
                total[0] += weight.as_f64();
            }
            total.iter().sum()
        },
    )
}

/// The weight of each bucket, summed in `f64` in the order of ids; logits below a bound are left out.
fn histogram<F: Float>(row: &[F], weights: &[F], max: F, bound: F, sums: &mut Vec<f64>) {
    sums.clear();
    sums.resize(BUCKETS, 0.0);
    simd::vectorize(
        #[inline(always)]
        || {
            let Some(sums) = sums.first_chunk_mut::<BUCKETS>() else {
                return;
            };
            let mut buckets = [0; 64];
            for (block, weights) in row.chunks(64).zip(weights.chunks(64)) {
                let mut stay = select::stay(block, bound);
                if stay == 0 {
                    continue;
                }
                for (bucket, x) in buckets.iter_mut().zip(block) {
                    *bucket = self::bucket(*x, max);
                }
                while stay != 0 {
                    let i = stay.trailing_zeros() as usize;
                    sums[buckets[i] % BUCKETS] += weights[i].as_f64();
                    stay &= stay - 1;
                }
            }
        },
    );
}
