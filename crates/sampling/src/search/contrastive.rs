//! Contrastive search: likely tokens whose hidden state is unlike those before.

use llm_numerics::{Float, simd};
use ndarray::{Array2, ArrayRef2, ArrayRef3};

use super::speculative::axis;
use crate::weights::Softmax;
use crate::{SamplingError, output, rows, top_k};

/// Settings of contrastive search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContrastiveConfig {
    top_k: usize,
    alpha: f64,
}

impl ContrastiveConfig {
    /// `top_k` candidates, and the weight of the degeneration penalty (`penalty_alpha`). An `alpha` of 0 is greedy decoding; 0.6 is usual.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::TopK`] if `top_k` is 0.
    /// - [`SamplingError::Alpha`] if `alpha` is not in `[0, 1]`.
    pub fn new(top_k: usize, alpha: f64) -> Result<Self, SamplingError> {
        top_k::validate(top_k)?;
        if !(0.0..=1.0).contains(&alpha) {
            return Err(SamplingError::Alpha(alpha));
        }
        Ok(Self { top_k, alpha })
    }

    /// Number of candidates.
    #[must_use]
    pub const fn top_k(&self) -> usize {
        self.top_k
    }

    /// Weight of the penalty.
    #[must_use]
    pub const fn alpha(&self) -> f64 {
        self.alpha
    }
}

/// The likeliest tokens of each row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Proposal {
    /// `[batch, top_k]`, the likeliest first; of equals, lower ids first.
    pub tokens: Array2<u32>,
    /// `[batch, top_k]`: their probabilities.
    pub probabilities: Array2<f64>,
}

/// The candidate that a row goes on with.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// Which of the candidates.
    pub index: usize,
    /// Its token.
    pub token: u32,
    /// Its row among the `batch * top_k` that the model has run: the row whose cache and logits stay.
    pub cache_row: usize,
    /// What it was chosen by.
    pub score: f64,
    /// Natural logarithm of its probability.
    pub log_probability: f64,
    /// The degeneration penalty: its largest cosine with a position before.
    pub penalty: f64,
}

/// Contrastive search over a batch, without the model.
///
/// ```text
/// candidates: the top_k likeliest v of p = softmax(logits)
/// score(v) = (1 - alpha) p(v) - alpha max_j cos(h_v, h_j);   the highest one is chosen
/// ```
///
/// Each step has two phases. [`propose`](Self::propose) names the candidates of each row; the model runs all `batch * top_k` of them, one
/// token each, on copies of the row's cache. [`choose`](Self::choose) takes their hidden states, chooses, and says which copies stay; the
/// logits of those are the next step's.
///
/// A candidate of probability 0 (masked out) is never chosen; in Hugging Face's form it may be. A hidden state of zeros has a cosine of 0 with all others.
///
/// # Precision
///
/// Hidden states are divided by their length in `f64` and rounded to `F`; products are in `F`, and scores in `f64`.
///
/// # Example
///
/// ```
/// use llm_sampling::search::contrastive::{ContrastiveConfig, ContrastiveSearch};
/// use ndarray::array;
///
/// let context = array![[[1.0_f32, 0.0], [0.0, 1.0]]]; // hidden states [batch, seq, d_model]
/// let mut search = ContrastiveSearch::new(ContrastiveConfig::new(2, 0.6)?, &context, None)?;
/// let proposal = search.propose(&array![[2.0_f32, 1.8, -5.0]])?;
/// assert_eq!(proposal.tokens, array![[0, 1]]);
/// // The likelier one repeats a direction of the context, the other does not.
/// let hidden = array![[[0.0_f32, 3.0], [-1.0, -1.0]]]; // [batch, top_k, d_model]
/// let choices = search.choose(&proposal, &hidden)?;
/// assert_eq!((choices[0].token, choices[0].cache_row), (1, 1));
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Su et al. 2022, arXiv:2202.06417v3; `_ranking_fast` of transformers 4.55.
#[derive(Clone, Debug, PartialEq)]
pub struct ContrastiveSearch<F> {
    config: ContrastiveConfig,
    d_model: usize,
    /// For each row, unit vectors of the positions that count, one after the other.
    context: Vec<Vec<F>>,
}

impl<F: Float> ContrastiveSearch<F> {
    /// A search that starts with the hidden states of the prompts (the last layer's).
    ///
    /// `mask` says which positions count: false for left padding. Versions of transformers before 4.45 had none, so that padding counted.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[batch, seq, d_model]`, any strides
    /// - `mask`: `[batch, seq]`; `None` counts all
    ///
    /// # Errors
    ///
    /// - [`SamplingError::Axis`] if the shapes differ.
    /// - [`SamplingError::Hidden`] if a hidden state that counts is not finite.
    /// - [`SamplingError::NoContext`] if a row has no position that counts.
    pub fn new(
        config: ContrastiveConfig,
        hidden: &ArrayRef3<F>,
        mask: Option<&ArrayRef2<bool>>,
    ) -> Result<Self, SamplingError> {
        let (batch, seq, d_model) = hidden.dim();
        if let Some(mask) = mask {
            axis("mask", "batch", batch, mask.nrows())?;
            axis("mask", "seq", seq, mask.ncols())?;
        }
        let mut context = Vec::with_capacity(batch);
        for row in 0..batch {
            let mut units = Vec::new();
            let mut any = false;
            for position in 0..seq {
                if mask.is_none_or(|mask| mask[[row, position]]) {
                    push_unit(hidden, "hidden", [row, position], &mut units)?;
                    any = true;
                }
            }
            if !any {
                return Err(SamplingError::NoContext { row });
            }
            context.push(units);
        }
        Ok(Self {
            config,
            d_model,
            context,
        })
    }

    /// First phase: the candidates of each row.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[batch, vocab]`, after the processors
    ///
    /// # Errors
    ///
    /// - [`SamplingError::Axis`] if there are not as many rows.
    /// - [`SamplingError::TooManyCandidates`] if `top_k` is above `vocab`.
    /// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], [`SamplingError::Vocab`].
    pub fn propose(&self, logits: &ArrayRef2<F>) -> Result<Proposal, SamplingError> {
        axis("logits", "batch", self.context.len(), logits.nrows())?;
        propose(logits, self.config.top_k)
    }

    /// Second phase: chooses a candidate for each row, and adds its hidden state to the context.
    ///
    /// # Shapes
    ///
    /// - `proposal`: from [`propose`](Self::propose)
    /// - `hidden`: `[batch, top_k, d_model]`, of the candidates
    /// - returns: `[batch]`
    ///
    /// # Errors
    ///
    /// [`SamplingError::Axis`], [`SamplingError::Hidden`]. On an error, nothing has changed.
    pub fn choose(
        &mut self,
        proposal: &Proposal,
        hidden: &ArrayRef3<F>,
    ) -> Result<Vec<Choice>, SamplingError> {
        let (batch, k) = (self.context.len(), self.config.top_k);
        for (name, (rows, columns)) in [
            ("tokens", proposal.tokens.dim()),
            ("probabilities", proposal.probabilities.dim()),
        ] {
            axis(name, "batch", batch, rows)?;
            axis(name, "top_k", k, columns)?;
        }
        axis("hidden", "batch", batch, hidden.dim().0)?;
        axis("hidden", "top_k", k, hidden.dim().1)?;
        axis("hidden", "d_model", self.d_model, hidden.dim().2)?;
        let mut units = Vec::with_capacity(hidden.len());
        for row in 0..batch {
            for index in 0..k {
                push_unit(hidden, "hidden", [row, index], &mut units)?;
            }
        }
        let mut penalties = vec![0.0; k];
        let mut choices = Vec::with_capacity(batch);
        for (row, context) in self.context.iter().enumerate() {
            if self.d_model > 0 {
                let width = k * self.d_model;
                let units = &units[row * width..][..width];
                largest_cosines(context, units, self.d_model, &mut penalties);
            }
            let mut best: Option<Choice> = None;
            for (index, &penalty) in penalties.iter().enumerate() {
                let probability = proposal.probabilities[[row, index]];
                if best.is_some() && !(probability > 0.0) {
                    continue; // masked out
                }
                let score = (1.0 - self.config.alpha) * probability - self.config.alpha * penalty;
                if best.is_none_or(|best| score > best.score) {
                    best = Some(Choice {
                        index,
                        token: proposal.tokens[[row, index]],
                        cache_row: row * k + index,
                        score,
                        log_probability: probability.ln(),
                        penalty,
                    });
                }
            }
            choices.extend(best);
        }
        for (row, choice) in choices.iter().enumerate() {
            let start = (row * k + choice.index) * self.d_model;
            self.context[row].extend_from_slice(&units[start..start + self.d_model]);
        }
        Ok(choices)
    }
}

fn propose<F: Float>(logits: &ArrayRef2<F>, k: usize) -> Result<Proposal, SamplingError> {
    let (batch, vocab) = logits.dim();
    if k > vocab {
        return Err(SamplingError::TooManyCandidates { got: k, vocab });
    }
    let mut tokens = Vec::with_capacity(batch * k);
    let mut probabilities = Vec::with_capacity(batch * k);
    rows::try_for_each(logits, |_, row| {
        let max = rows::finite_max(row)?;
        let p = Softmax::new(row, max);
        let order = output::likeliest(row, k);
        probabilities.extend(order.iter().map(|&i| p.probability(row[i])));
        tokens.extend(order.iter().map(|&i| i as u32)); // vocab is at most 2^32
        Ok(())
    })?;
    Ok(Proposal {
        tokens: shaped(batch, k, tokens),
        probabilities: shaped(batch, k, probabilities),
    })
}

/// The elements in rows of `k`.
fn shaped<T: Copy + Default>(batch: usize, k: usize, values: Vec<T>) -> Array2<T> {
    Array2::from_shape_fn([batch, k], |(row, i)| values[row * k + i])
}

/// Appends `hidden[row, i]` divided by its length; zeros stay zeros.
fn push_unit<F: Float>(
    hidden: &ArrayRef3<F>,
    array: &'static str,
    [row, i]: [usize; 2],
    units: &mut Vec<F>,
) -> Result<(), SamplingError> {
    let d_model = hidden.dim().2;
    let mut largest = 0.0_f64;
    for feature in 0..d_model {
        let value = hidden[[row, i, feature]].as_f64();
        if !value.is_finite() {
            return Err(SamplingError::Hidden {
                array,
                index: [row, i, feature],
                value,
            });
        }
        largest = largest.max(value.abs());
    }
    // Divided by the largest first, so that no square overflows or vanishes.
    let scaled = |feature| hidden[[row, i, feature]].as_f64() / largest;
    let length = (0..d_model)
        .map(|feature| scaled(feature) * scaled(feature))
        .sum::<f64>()
        .sqrt();
    units.extend((0..d_model).map(|feature| {
        if largest == 0.0 {
            F::zero()
        } else {
            F::from_f64(scaled(feature) / length)
        }
    }));
    Ok(())
}

/// Candidates that are compared with a position at once.
const GROUP: usize = 4;

/// The largest inner product of each candidate's unit vector with one of the context's.
fn largest_cosines<F: Float>(context: &[F], units: &[F], d_model: usize, out: &mut [f64]) {
    out.fill(f64::NEG_INFINITY);
    simd::vectorize(
        #[inline(always)]
        || {
            // The context is read once.
            for position in context.chunks_exact(d_model) {
                let groups = units.chunks(GROUP * d_model).zip(out.chunks_mut(GROUP));
                for (units, out) in groups {
                    if out.len() == GROUP {
                        let (a, b) = units.split_at(2 * d_model);
                        let ((a, b), (c, d)) = (a.split_at(d_model), b.split_at(d_model));
                        let [cosines] = simd::dots([position], [a, b, c, d]);
                        for (max, cosine) in out.iter_mut().zip(cosines) {
                            *max = max.max(cosine.as_f64());
                        }
                        continue;
                    }
                    for (max, unit) in out.iter_mut().zip(units.chunks_exact(d_model)) {
                        let [[cosine]] = simd::dots([position], [unit]);
                        *max = max.max(cosine.as_f64());
                    }
                }
            }
        },
    );
}
