//! Beam search: the sequences that are likeliest as a whole.

use llm_numerics::Float;
use ndarray::ArrayRef2;

use super::beam_rows::{BeamRows, Decision};
use super::hypothesis::Hypothesis;
use super::log_probs::LogProbs;
use crate::{Processor, SamplingError};

/// How the sum of log-probabilities becomes the score that hypotheses are ordered by.
///
/// Sums are negative and shrink with each token, so that without a rule short sequences win. Where a penalty is positive, longer ones are
/// favored; negative, shorter ones.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LengthRule {
    /// The sum itself.
    Sum,
    /// `sum / n^penalty` for `n` new tokens, a stop token among them: transformers 5.23, and 4.49 before it.
    Generated {
        /// The exponent; 1 is the mean of the log-probabilities.
        penalty: f64,
    },
    /// `sum / n^penalty` for `n` tokens with the prompt, but without a stop token: transformers 4.30.
    Whole {
        /// The exponent.
        penalty: f64,
    },
    /// `sum / ((5 + n) / 6)^alpha` for `n` new tokens, a stop token among them: Wu et al. 2016, arXiv:1609.08144v2 §7 (GNMT).
    Gnmt {
        /// The exponent.
        alpha: f64,
    },
}

impl LengthRule {
    fn exponent(self) -> f64 {
        match self {
            Self::Sum => 0.0,
            Self::Generated { penalty } | Self::Whole { penalty } => penalty,
            Self::Gnmt { alpha } => alpha,
        }
    }

    /// True if the same sum is worth more with more tokens.
    pub(super) fn favors_long(self) -> bool {
        self.exponent() > 0.0
    }

    /// The score of a hypothesis.
    pub(super) fn score(self, sum: f64, generated: usize, stopped: bool, prompt: usize) -> f64 {
        match self {
            Self::Whole { .. } if stopped => self.bound(sum, generated - 1, prompt),
            _ => self.bound(sum, generated, prompt),
        }
    }

    /// The score of a sum after so many new tokens, none of them a stop token.
    pub(super) fn bound(self, sum: f64, generated: usize, prompt: usize) -> f64 {
        let n = match self {
            Self::Sum => return sum,
            Self::Generated { .. } => generated as f64,
            Self::Whole { .. } => prompt as f64 + generated as f64,
            Self::Gnmt { .. } => (5.0 + generated as f64) / 6.0,
        };
        if sum == 0.0 {
            return sum; // the power may be 0
        }
        sum / n.powf(self.exponent())
    }
}

/// When a row has enough hypotheses. It never stops before it has one for each beam, unless nothing can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EarlyStopping {
    /// As soon as there are as many as beams: `early_stopping=True` of transformers.
    WhenFull,
    /// If the best sum that goes on would not be better than the worst hypothesis at its present length: `early_stopping=False`. A guess where
    /// the length rule favors long sequences, exact elsewhere.
    Heuristic,
    /// If no continuation can be better, at any length that is allowed: `early_stopping="never"`. Exact as long as log-probabilities are not
    /// above 0.
    Never,
}

/// Whose books are kept: two points where versions of transformers differ, besides the length rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bookkeeping {
    /// transformers 5.23: [`EarlyStopping`] looks at the best running beam; of the last step's candidates the first `n_beams` become
    /// hypotheses; [`BeamSample`](super::beam_sample::BeamSample) keeps the order in which it drew.
    Vectorized,
    /// transformers 4.49 and 4.30: [`EarlyStopping`] looks at the best candidate, even one that has just ended, so that a search may go on
    /// longer; all running beams of the last step become hypotheses, unless its stop tokens made enough of them; candidates that were drawn
    /// are sorted by their sums.
    Scorer,
}

/// Settings of the searches by beams.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BeamConfig {
    /// Sequences that go on side by side, for each prompt.
    #[doc(alias = "num_beams")]
    pub n_beams: usize,
    /// Tokens to make at most; 0 makes none.
    pub max_new_tokens: usize,
    /// Hypotheses to return for each prompt.
    #[doc(alias = "num_return_sequences")]
    pub n_return: usize,
    /// From sums to scores.
    #[doc(alias = "length_penalty")]
    pub length: LengthRule,
    /// When to stop.
    pub early_stopping: EarlyStopping,
    /// The version of transformers whose books are kept.
    pub bookkeeping: Bookkeeping,
    /// Tokens that end a sequence.
    #[doc(alias = "eos_token_id")]
    pub stop_ids: Vec<u32>,
    /// What to feed for beams that do not go on. Nothing depends on it.
    #[doc(alias = "pad_token_id")]
    pub pad_id: u32,
}

impl BeamConfig {
    /// What a textbook calls beam search: sums without a length rule, until no continuation can be better. One hypothesis, no stop ids, pad 0.
    #[must_use]
    pub const fn textbook(n_beams: usize, max_new_tokens: usize) -> Self {
        Self {
            n_beams,
            max_new_tokens,
            n_return: 1,
            length: LengthRule::Sum,
            early_stopping: EarlyStopping::Never,
            bookkeeping: Bookkeeping::Vectorized,
            stop_ids: Vec::new(),
            pad_id: 0,
        }
    }

    /// What transformers 5.23 does unless told otherwise: the mean over new tokens, and the heuristic rule to stop.
    #[must_use]
    pub const fn transformers(n_beams: usize, max_new_tokens: usize) -> Self {
        let mut config = Self::textbook(n_beams, max_new_tokens);
        config.length = LengthRule::Generated { penalty: 1.0 };
        config.early_stopping = EarlyStopping::Heuristic;
        config
    }

    /// Sets [`n_return`](Self::n_return).
    #[must_use]
    pub const fn with_n_return(mut self, n_return: usize) -> Self {
        self.n_return = n_return;
        self
    }

    /// Sets the [`length`](Self::length) rule.
    #[must_use]
    pub const fn with_length(mut self, length: LengthRule) -> Self {
        self.length = length;
        self
    }

    /// Sets [`early_stopping`](Self::early_stopping).
    #[must_use]
    pub const fn with_early_stopping(mut self, early_stopping: EarlyStopping) -> Self {
        self.early_stopping = early_stopping;
        self
    }

    /// Sets [`bookkeeping`](Self::bookkeeping).
    #[must_use]
    pub const fn with_bookkeeping(mut self, bookkeeping: Bookkeeping) -> Self {
        self.bookkeeping = bookkeeping;
        self
    }

    /// Sets the [`stop_ids`](Self::stop_ids).
    #[must_use]
    pub fn with_stop_ids(mut self, stop_ids: Vec<u32>) -> Self {
        self.stop_ids = stop_ids;
        self
    }

    /// Sets [`pad_id`](Self::pad_id).
    #[must_use]
    pub const fn with_pad_id(mut self, pad_id: u32) -> Self {
        self.pad_id = pad_id;
        self
    }

    /// Candidates that `width` beams look at: so many that `width` of them go on even if each beam proposes all stop ids. At least two a beam.
    #[must_use]
    pub fn n_candidates(&self, width: usize) -> usize {
        let ids = self.stop_ids.iter().enumerate();
        let distinct = ids.filter(|(i, id)| !self.stop_ids[..*i].contains(id));
        width.saturating_mul((1 + distinct.count()).max(2))
    }

    pub(super) fn validate(&self) -> Result<(), SamplingError> {
        if self.n_beams == 0 {
            return Err(SamplingError::Beams(0));
        }
        if self.n_return == 0 || self.n_return > self.n_beams {
            return Err(SamplingError::BeamReturn {
                n_return: self.n_return,
                n_beams: self.n_beams,
            });
        }
        if !self.length.exponent().is_finite() {
            return Err(SamplingError::LengthPenalty(self.length.exponent()));
        }
        Ok(())
    }
}

/// Beam search, one step at a time.
///
/// ```text
/// s(y) = sum_t ln p(y_t | y_<t)             sums of the running beams of a prompt, at the start one beam with 0
/// candidates = the n_candidates largest of  s(y) + processed ln p(v | y)  over beams y and tokens v
/// the first n_beams of them that end        become hypotheses, of score s / length; the best n_beams stay
/// the first n_beams that do not end         are the running beams of the next step
/// ```
///
/// The search knows no model: the caller feeds [`tokens`](Self::tokens) to one whose caches have been reordered by
/// [`parents`](Self::parents), and gives the logits to [`step`](Self::step). Of candidates that are equal the lower beam comes first, then the
/// lower id (transformers leaves that to `torch.topk`, which promises no order); of hypotheses that are equal, the older one.
///
/// Where transformers starts all beams but the first with a sum of -1e9, here they are not there yet; that makes a difference only where the
/// vocabulary has fewer tokens than there are beams. Rows with fewer possible sequences than `n_return` return fewer.
///
/// # Shapes
///
/// Rows are prompts times beams: beam `b` of prompt `i` is row `i * n_beams + b`, in logits, tokens and parents.
///
/// # Precision
///
/// Log-probabilities are in the type of the logits, sums and scores in `f64`. A search in `f32` sums may order hypotheses otherwise whose
/// scores are equal to 6 digits.
///
/// # Example
///
/// ```
/// use llm_sampling::search::beam::{BeamConfig, BeamSearch};
/// use llm_sampling::{Candidates, Context, SamplingError};
/// use ndarray::{Array2, array};
///
/// // The likeliest first token, 0, leads to nothing likely; token 1 does.
/// let table = array![[0.5_f64, 0.4, 0.1], [0.4, 0.3, 0.3], [0.05, 0.05, 0.9]].ln();
/// let table = |last: u32| match last { 2 => table.row(0), 0 => table.row(1), _ => table.row(2) };
/// let unchanged = |_: &mut Candidates<f64>, _: &Context<'_>| Ok::<(), SamplingError>(());
///
/// let mut search = BeamSearch::new(&[[2]], &BeamConfig::textbook(2, 2))?;
/// while !search.is_done() {
///     let tokens = search.tokens();
///     let logits = Array2::from_shape_fn([2, 3], |(row, token)| table(tokens[row])[token]);
///     search.step(&logits, &unchanged)?;
/// }
/// let best = &search.finish()[0][0];
/// assert_eq!(best.tokens, [1, 2]); // greedy decoding takes [0, 0]
/// assert!((best.score - (0.4_f64 * 0.9).ln()).abs() < 1e-12);
/// # Ok::<(), SamplingError>(())
/// ```
///
/// Source: Graves 2012, arXiv:1211.3711v1 §3; `GenerationMixin._beam_search` of transformers 5.23.
#[derive(Clone, Debug)]
pub struct BeamSearch {
    rows: BeamRows,
}

impl BeamSearch {
    /// A search from each prompt; prompts may have different lengths.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::EmptyPrompt`].
    /// - [`SamplingError::Beams`], [`SamplingError::BeamReturn`], [`SamplingError::LengthPenalty`].
    /// - [`SamplingError::BeamRowsOverflow`] if there are 2^32 beams or more.
    pub fn new<T: AsRef<[u32]>>(prompts: &[T], config: &BeamConfig) -> Result<Self, SamplingError> {
        Ok(Self {
            rows: BeamRows::new(prompts, config, 1)?,
        })
    }

    /// Sets the random numbers for processors that take some: a stream for each prompt, so that it does not matter which prompts run together.
    /// Without it all have seed 0 and stream 0.
    ///
    /// # Errors
    ///
    /// [`SamplingError::BeamStreams`] if there is not one stream for each prompt.
    pub fn with_random(self, seed: u64, streams: &[u64]) -> Result<Self, SamplingError> {
        let rows = self.rows.with_random(seed, streams)?;
        Ok(Self { rows })
    }

    /// True if no step can change the hypotheses.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rows.is_done()
    }

    /// The newest token of each beam, `[prompts * n_beams]`: what to feed next, [`pad_id`](BeamConfig::pad_id) where no beam goes on.
    ///
    /// Before the first step these are the last tokens of the prompts, in the rows of the first beams: what comes before must have been fed
    /// there.
    #[must_use]
    pub fn tokens(&self) -> Vec<u32> {
        self.rows.tokens()
    }

    /// The row whose cache each beam continues, `[prompts * n_beams]`; its own where no beam goes on.
    #[must_use]
    pub fn parents(&self) -> Vec<usize> {
        self.rows.parents()
    }

    /// The whole sequence of a row, prompt included; `None` where no beam goes on.
    #[must_use]
    pub fn sequence(&self, row: usize) -> Option<Vec<u32>> {
        self.rows.sequence(row)
    }

    /// Takes the logits that follow [`tokens`](Self::tokens).
    ///
    /// The processor runs on log-probabilities, as in transformers, once for each running beam; what it returns is not normalized again. Its
    /// context has the row of the logits, and the random numbers of the prompt and the step, see [`with_random`](Self::with_random). A processor
    /// that finds or leaves no token ends a beam; that is no error.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[prompts * n_beams, vocab]`, any strides; rows without a running beam are not looked at
    ///
    /// # Errors
    ///
    /// - [`SamplingError::SearchDone`], [`SamplingError::BeamLogits`].
    /// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], [`SamplingError::Vocab`], and those of
    ///   the processor.
    ///
    /// On an error, nothing has changed.
    pub fn step<F: Float, P: Processor<F> + ?Sized>(
        &mut self,
        logits: &ArrayRef2<F>,
        processor: &P,
    ) -> Result<(), SamplingError> {
        self.rows.check(logits)?;
        let config = &self.rows.config;
        let mut memory = LogProbs::new();
        let mut decisions = Vec::with_capacity(self.rows.rows.len());
        for row in &self.rows.rows {
            if row.done {
                decisions.push(Decision::default());
                continue;
            }
            let candidates = self
                .rows
                .best(row, logits, processor, &mut memory, |_| 0.0)?;
            decisions.push(row.decide(&candidates, config));
        }
        self.rows.apply(&decisions);
        Ok(())
    }

    /// The hypotheses of each prompt, the best first. Beams that still go on end here, with
    /// [`StopReason::Callback`](crate::generate::StopReason::Callback).
    #[must_use]
    pub fn finish(self) -> Vec<Vec<Hypothesis>> {
        self.rows.finish(|_, _| 0)
    }
}
