//! What there is to say about a chosen token: log-probabilities, entropy, rank, alternatives.

use llm_numerics::Float;
use ndarray::ArrayRef1;

use crate::{Candidates, SamplingError, Scratch, rows, select};

/// Which of the two distributions the alternatives are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Distribution {
    /// The softmax of the model's logits, before processors: vLLM's default.
    Raw,
    /// After the processors: what the token was drawn from.
    Processed,
}

/// A token with its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopToken {
    /// Id of the token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub log_probability: f64,
}

/// A chosen token, as training and evaluation want to know it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenOutput {
    /// Id of the token.
    pub token: u32,
    /// Natural logarithm of its probability after the processors.
    pub log_probability: f64,
    /// The same under the softmax of the model's logits, before the processors.
    pub raw_log_probability: f64,
    /// Entropy after the processors, in nats: 0 if one token is left.
    pub entropy: f64,
    /// Entropy before the processors, in nats: at most `ln vocab`.
    pub raw_entropy: f64,
    /// How many tokens the processors have left.
    pub kept: usize,
    /// How many tokens had a larger logit before the processors: 0 is the likeliest.
    pub rank: usize,
    /// The likeliest tokens of the distribution that was asked for, the likeliest first; of equals, lower ids first. Fewer than asked for if
    /// no more have a logit above `-inf`.
    #[doc(alias = "top_logprobs")]
    pub top: Vec<TopToken>,
}

/// Describes a token by the row that the model gave and by what the processors made of it.
///
/// ```text
/// log_probability = x_t - ln sum_j e^(x_j),   entropy = - sum_j p_j ln p_j
/// ```
///
/// # Shapes
///
/// - `raw`: `[vocab]`, any stride
/// - `processed`: candidates of the same vocabulary; nothing in them changes
///
/// # Errors
///
/// - [`SamplingError::Axis`] if the vocabularies differ.
/// - [`SamplingError::NotCandidate`] if the token was masked out, or if there is no such id.
/// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], [`SamplingError::Vocab`] for either
///   distribution; they name row 0.
///
/// # Precision
///
/// In `f64` throughout.
///
/// # Example
///
/// ```
/// use llm_sampling::output::{Distribution, describe};
/// use llm_sampling::{Candidates, Context, Processor, min_p::MinP};
/// use ndarray::array;
///
/// let raw = array![4_f64, 2.0, 1.0, 1.0].ln(); // probabilities 1/2, 1/4, 1/8, 1/8
/// let mut candidates = Candidates::new();
/// candidates.fill(raw.as_slice().unwrap())?;
/// MinP::new(0.4, 1)?.apply(&mut candidates, &Context::new(&[], &[]))?; // 2/3, 1/3 are left
/// let output = describe(&raw, &candidates, 1, 3, Distribution::Raw)?;
/// assert!((output.log_probability - (1.0_f64 / 3.0).ln()).abs() < 1e-15);
/// assert!((output.raw_log_probability - 0.25_f64.ln()).abs() < 1e-15);
/// assert!((output.raw_entropy - 1.75 * 2_f64.ln()).abs() < 1e-15);
/// assert_eq!((output.kept, output.rank), (2, 1));
/// assert_eq!(output.top.iter().map(|top| top.token).collect::<Vec<_>>(), [0, 1, 2]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: the fields `logprobs` and `top_logprobs` of OpenAI's chat completions; `logprobs_mode` of vLLM.
pub fn describe<F: Float>(
    raw: &ArrayRef1<F>,
    processed: &Candidates<F>,
    token: u32,
    top_n: usize,
    top_of: Distribution,
) -> Result<TokenOutput, SamplingError> {
    if raw.len() != processed.vocab() {
        return Err(SamplingError::Axis {
            array: "raw",
            axis: "vocab",
            expected: processed.vocab(),
            got: raw.len(),
        });
    }
    processed.max()?;
    let index = processed
        .index(token)
        .filter(|&index| processed.logits()[index] > F::neg_infinity());
    let index = index.ok_or(SamplingError::NotCandidate(token))?;
    rows::as_slice(raw, &mut Vec::new(), |raw| {
        rows::finite_max(raw)?;
        let before = Summary::of(raw);
        let after = Summary::of(processed.logits());
        let chosen = raw[token as usize];
        let top = match top_of {
            Distribution::Raw => before.top(raw, top_n, |i| i as u32), // vocab is at most 2^32
            Distribution::Processed => after.top(processed.logits(), top_n, |i| processed.id(i)),
        };
        Ok(TokenOutput {
            token,
            log_probability: after.log_probability(processed.logits()[index]),
            raw_log_probability: before.log_probability(chosen),
            entropy: after.entropy,
            raw_entropy: before.entropy,
            kept: after.kept,
            rank: raw.iter().filter(|x| **x > chosen).count(),
            top,
        })
    })
}

/// Sums over a checked row.
struct Summary {
    max: f64,
    log_total: f64,
    entropy: f64,
    kept: usize,
}

impl Summary {
    fn of<F: Float>(row: &[F]) -> Self {
        let max = row.iter().map(|x| x.as_f64());
        let max = max.fold(f64::NEG_INFINITY, f64::max);
        let (mut total, mut weighted, mut kept) = (0.0, 0.0, 0);
        for x in row.iter().map(|x| x.as_f64() - max) {
            if x == f64::NEG_INFINITY {
                continue;
            }
            kept += 1;
            let weight = x.exp();
            total += weight;
            weighted += weight * x;
        }
        let log_total = f64::ln(total);
        Self {
            max,
            log_total,
            entropy: (log_total - weighted / total).max(0.0),
            kept,
        }
    }

    fn log_probability<F: Float>(&self, logit: F) -> f64 {
        logit.as_f64() - self.max - self.log_total
    }

    fn top<F: Float>(&self, row: &[F], n: usize, id: impl Fn(usize) -> u32) -> Vec<TopToken> {
        let order = likeliest(row, n).into_iter();
        let top = order
            .filter(|&i| row[i] > F::neg_infinity())
            .map(|i| TopToken {
                token: id(i),
                log_probability: self.log_probability(row[i]),
            });
        top.collect()
    }
}

/// Indices of the `n` largest logits of a row without NaN, the largest first; of equals, lower indices first.
pub(crate) fn likeliest<F: Float>(row: &[F], n: usize) -> Vec<usize> {
    let n = n.min(row.len());
    if n == 0 {
        return Vec::new();
    }
    let nth = select::kth_largest(row, n, &mut Scratch::default());
    let mut order: Vec<usize> = (0..row.len()).filter(|&i| row[i] >= nth).collect();
    order.sort_unstable_by(|&a, &b| select::descending(row[a], row[b]).then(a.cmp(&b)));
    order.truncate(n);
    order
}
