//! Top-p (nucleus): the smallest set of tokens that has enough probability.

use llm_numerics::{Float, simd};
use ndarray::ArrayRef2;

use crate::{Candidates, Context, Processor, SamplingError, Scratch, processor, select};

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
    processor::replace_rows(logits, |_, row, candidates| {
        candidates.fill(row)?;
        candidates.keep_top_p(p, sum_from, min_tokens_to_keep)
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
        candidates.keep_top_p(self.p, self.sum_from, self.min_tokens_to_keep)
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

/// The smallest logit that stays, and how many tokens with the same logit do not: those with the lowest ids, or ([`SumFrom::Largest`]) with
/// the highest.
///
/// `max` is the largest logit of the row, and finite; `p` is below 1; `min_tokens_to_keep` is at least 1.
///
/// Sorting a whole vocabulary is slow and of no use: a histogram of the weights by depth tells in which bucket the sum of probabilities
/// reaches the bound, and only the tokens of that bucket are sorted.
pub(crate) fn threshold<F: Float>(
    row: &[F],
    max: F,
    p: f64,
    sum_from: SumFrom,
    min_tokens_to_keep: usize,
    scratch: &mut Scratch<F>,
) -> (F, usize) {
    let (cut, dropped) = crossing(row, max, p, sum_from, scratch);
    if min_tokens_to_keep > 1 {
        let stay = row.iter().filter(|x| **x >= cut).count() - dropped;
        let least = min_tokens_to_keep.min(row.len());
        if stay < least {
            let nth = select::kth_largest(row, least, scratch);
            let at_least = row.iter().filter(|x| **x >= nth).count();
            return (nth, at_least - least);
        }
    }
    (cut, dropped)
}

/// [`threshold`] for one token at least.
fn crossing<F: Float>(
    row: &[F],
    max: F,
    p: f64,
    sum_from: SumFrom,
    scratch: &mut Scratch<F>,
) -> (F, usize) {
    let Scratch {
        values: weights,
        sums,
        indices,
        buckets,
        ..
    } = scratch;
    weigh(row, max, weights, buckets);
    histogram(weights, buckets, sums);
    let total: f64 = sums.iter().sum();
    // The bucket with the token that crosses the bound, and the sum up to there.
    let (bucket, mut sum) = match sum_from {
        SumFrom::Smallest => reach(sums.iter().enumerate().rev(), |sum| sum > (1.0 - p) * total),
        SumFrom::Largest => reach(sums.iter().enumerate(), |sum| sum >= p * total),
    };
    tokens_of(row, buckets, bucket as u32, indices);
    let logit = |i: u32| row[i as usize];
    // There is a token: the weight of the bucket is above zero. One stays, even if rounding leaves the bound uncrossed.
    let n = indices.len();
    let (cut, dropped) = match sum_from {
        SumFrom::Smallest => {
            indices
                .sort_unstable_by(|&i, &j| select::descending(logit(j), logit(i)).then(i.cmp(&j)));
            let mut first = 0;
            while first + 1 < n {
                sum += weights[indices[first] as usize].as_f64();
                if sum > (1.0 - p) * total {
                    break;
                }
                first += 1;
            }
            (first, &indices[..first])
        }
        SumFrom::Largest => {
            indices
                .sort_unstable_by(|&i, &j| select::descending(logit(i), logit(j)).then(i.cmp(&j)));
            let mut last = 0;
            while last + 1 < n {
                sum += weights[indices[last] as usize].as_f64();
                if sum >= p * total {
                    break;
                }
                last += 1;
            }
            (last, indices.get(last + 1..).unwrap_or_default())
        }
    };
    let cut = indices.get(cut).map_or(max, |&i| logit(i));
    (cut, dropped.iter().filter(|&&i| logit(i) == cut).count())
}

/// The first of the buckets with which the sum meets the bound, and the sum before it; the last one if none does.
fn reach<'a>(
    buckets: impl Iterator<Item = (usize, &'a f64)>,
    meets: impl Fn(f64) -> bool,
) -> (usize, f64) {
    let mut last = (0, 0.0);
    let mut sum = 0.0;
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

/// Fills `weights` with `e^(x - max)` and `buckets` with the bucket of each logit, 0 for the maximum.
fn weigh<F: Float>(row: &[F], max: F, weights: &mut Vec<F>, buckets: &mut Vec<u32>) {
    let last = F::from_f64((BUCKETS - 1) as f64);
    let per_nat = F::from_f64(PER_NAT);
    weights.resize(row.len(), F::zero());
    buckets.resize(row.len(), 0);
    let (weights, buckets) = (weights.as_mut_slice(), buckets.as_mut_slice());
    simd::vectorize(
        #[inline(always)]
        || {
            let one = |x: F| {
                let depth = max - x;
                let scaled = depth * per_nat;
                let scaled = if scaled < last { scaled } else { last };
                ((-depth).fast_exp(), scaled.round_small())
            };
            let (rows, row_rest) = row.as_chunks::<16>();
            let (all_weights, weight_rest) = weights.as_chunks_mut::<16>();
            let (all_buckets, bucket_rest) = buckets.as_chunks_mut::<16>();
            for ((x, w), bucket) in rows.iter().zip(all_weights).zip(all_buckets) {
                // Copies, so that the compiler sees that nothing overlaps.
                let x = *x;
                let (mut new_weights, mut new_buckets) = ([F::zero(); 16], [0; 16]);
                for i in 0..16 {
                    (new_weights[i], new_buckets[i]) = one(x[i]);
                }
                *w = new_weights;
                *bucket = new_buckets;
            }
            for ((&x, w), bucket) in row_rest.iter().zip(weight_rest).zip(bucket_rest) {
                (*w, *bucket) = one(x);
            }
        },
    );
}

/// The weight of each bucket, summed in `f64` in the order of ids: every fourth, then over the four.
fn histogram<F: Float>(weights: &[F], buckets: &[u32], sums: &mut Vec<f64>) {
    sums.clear();
    sums.resize(4 * BUCKETS, 0.0);
    let (quads, rest) = weights.as_chunks::<4>();
    let (bucket_quads, bucket_rest) = buckets.as_chunks::<4>();
    for (w, bucket) in quads.iter().zip(bucket_quads) {
        for i in 0..4 {
            sums[(4 * bucket[i] as usize + i) & (4 * BUCKETS - 1)] += w[i].as_f64();
        }
    }
    for (w, &bucket) in rest.iter().zip(bucket_rest) {
        sums[4 * bucket as usize] += w.as_f64();
    }
    for i in 0..BUCKETS {
        sums[i] = (sums[4 * i] + sums[4 * i + 1]) + (sums[4 * i + 2] + sums[4 * i + 3]);
    }
    sums.truncate(BUCKETS);
}

/// Collects the indices of the tokens in one bucket, but for masked ones.
fn tokens_of<F: Float>(row: &[F], buckets: &[u32], bucket: u32, indices: &mut Vec<u32>) {
    indices.clear();
    for (block, buckets) in buckets.chunks(64).enumerate() {
        let any = simd::vectorize(
            #[inline(always)]
            || {
                let same = buckets.iter().map(|&b| u32::from(b == bucket));
                same.fold(0, |any, same| any | same)
            },
        );
        if any == 0 {
            continue;
        }
        for (i, &b) in buckets.iter().enumerate() {
            let i = block * 64 + i;
            if b == bucket && row[i] > F::neg_infinity() {
                indices.push(i as u32); // vocab is at most 2^32
            }
        }
    }
}
