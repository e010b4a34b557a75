//! Diverse beam search: groups of beams that avoid each other's tokens.

use llm_numerics::Float;
use ndarray::ArrayRef2;

use super::beam::BeamConfig;
use super::beam_rows::{BeamRows, Decision};
use super::hypothesis::Hypothesis;
use super::log_probs::LogProbs;
use crate::{Processor, SamplingError};

/// Beam search in groups, each of which pays for tokens that groups before it chose in the same step.
///
/// ```text
/// for group g = 0 .. n_groups - 1:
///     beam search with n_beams / n_groups beams, whose candidates have
///     s(y) + processed ln p(v | y) - penalty * (beams of groups 0 .. g - 1 that go on with v in this step)
/// ```
///
/// This is the Hamming diversity of the paper. What was paid stays in the sums. Each group keeps hypotheses of its own; the best of all groups
/// are returned. Groups that are done choose no tokens (transformers counts its padding for them). The penalty comes after the processors;
/// transformers has it before the repetition penalty, which then multiplies it.
///
/// With a penalty of 0 all groups find the same. One group is [`BeamSearch`](super::beam::BeamSearch), which also has the meaning of rows, tokens
/// and parents: groups lie one after the other in a prompt's rows.
///
/// # Precision
///
/// That of [`BeamSearch`](super::beam::BeamSearch).
///
/// # Example
///
/// ```
/// use llm_sampling::search::beam::BeamConfig;
/// use llm_sampling::search::diverse::DiverseBeamSearch;
/// use llm_sampling::{Candidates, Context, SamplingError};
/// use ndarray::array;
///
/// let unchanged = |_: &mut Candidates<f64>, _: &Context<'_>| Ok::<(), SamplingError>(());
/// let logits = array![[0.6_f64, 0.3, 0.1], [0.6, 0.3, 0.1]].ln();
/// let config = BeamConfig::transformers(2, 1).with_n_return(2);
/// for (penalty, second) in [(0.1, 0), (1.0, 1)] { // ln 0.6 - ln 0.3 is 0.69
///     let mut search = DiverseBeamSearch::new(&[[0]], &config, 2, penalty)?;
///     search.step(&logits, &unchanged)?;
///     let hypotheses = &search.finish()[0];
///     assert_eq!(hypotheses[0].tokens, [0]);
///     assert_eq!(hypotheses[1].tokens, [second]);
/// }
/// # Ok::<(), SamplingError>(())
/// ```
///
/// Source: Vijayakumar et al. 2016, arXiv:1610.02424v2; `GenerationMixin._group_beam_search` and `HammingDiversityLogitsProcessor` of
/// transformers 4.49, with [`Bookkeeping::Scorer`](super::beam::Bookkeeping::Scorer).
#[derive(Clone, Debug)]
pub struct DiverseBeamSearch {
    rows: BeamRows,
    n_groups: usize,
    penalty: f64,
}

impl DiverseBeamSearch {
    /// A search from each prompt.
    ///
    /// # Errors
    ///
    /// - Those of [`BeamSearch::new`](super::beam::BeamSearch::new).
    /// - [`SamplingError::BeamGroups`] if `n_groups` does not divide the beams.
    /// - [`SamplingError::DiversityPenalty`] if it is not finite and at least 0.
    pub fn new<T: AsRef<[u32]>>(
        prompts: &[T],
        config: &BeamConfig,
        n_groups: usize,
        penalty: f64,
    ) -> Result<Self, SamplingError> {
        if !(penalty >= 0.0 && penalty.is_finite()) {
            return Err(SamplingError::DiversityPenalty(penalty));
        }
        Ok(Self {
            rows: BeamRows::new(prompts, config, n_groups)?,
            n_groups,
            penalty,
        })
    }

    /// As [`BeamSearch::with_random`](super::beam::BeamSearch::with_random).
    ///
    /// # Errors
    ///
    /// Those of [`BeamSearch::with_random`](super::beam::BeamSearch::with_random).
    pub fn with_random(self, seed: u64, streams: &[u64]) -> Result<Self, SamplingError> {
        let rows = self.rows.with_random(seed, streams)?;
        Ok(Self { rows, ..self })
    }

    /// As [`BeamSearch::is_done`](super::beam::BeamSearch::is_done).
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rows.is_done()
    }

    /// As [`BeamSearch::tokens`](super::beam::BeamSearch::tokens); before the first step in the row of the first beam of each group.
    #[must_use]
    pub fn tokens(&self) -> Vec<u32> {
        self.rows.tokens()
    }

    /// As [`BeamSearch::parents`](super::beam::BeamSearch::parents).
    #[must_use]
    pub fn parents(&self) -> Vec<usize> {
        self.rows.parents()
    }

    /// As [`BeamSearch::sequence`](super::beam::BeamSearch::sequence).
    #[must_use]
    pub fn sequence(&self, row: usize) -> Option<Vec<u32>> {
        self.rows.sequence(row)
    }

    /// Takes the logits that follow [`tokens`](Self::tokens).
    ///
    /// # Shapes
    ///
    /// - `logits`: `[prompts * n_beams, vocab]`, any strides; rows without a running beam are not looked at
    ///
    /// # Errors
    ///
    /// Those of [`BeamSearch::step`](super::beam::BeamSearch::step). On an error, nothing has changed.
    pub fn step<F: Float, P: Processor<F> + ?Sized>(
        &mut self,
        logits: &ArrayRef2<F>,
        processor: &P,
    ) -> Result<(), SamplingError> {
        self.rows.check(logits)?;
        let config = &self.rows.config;
        let mut memory = LogProbs::new();
        let mut decisions = Vec::with_capacity(self.rows.rows.len());
        let mut chosen: Vec<u32> = Vec::new(); // by earlier groups
        for (i, row) in self.rows.rows.iter().enumerate() {
            if i % self.n_groups == 0 {
                chosen.clear();
            }
            if row.done {
                decisions.push(Decision::default());
                continue;
            }
            let times = |token| chosen.iter().filter(|t| **t == token).count();
            let price = |token| self.penalty * times(token) as f64;
            let candidates = self.rows.best(row, logits, processor, &mut memory, price)?;
            let goes_on = candidates.iter().map(|c| c.token);
            let goes_on = goes_on.filter(|token| !config.stop_ids.contains(token));
            chosen.extend(goes_on.take(row.width));
            decisions.push(row.decide(&candidates, config));
        }
        self.rows.apply(&decisions);
        Ok(())
    }

    /// The hypotheses of each prompt over all groups, the best first. Beams that still go on end here.
    #[must_use]
    pub fn finish(self) -> Vec<Vec<Hypothesis>> {
        self.rows.finish(|_, _| 0)
    }
}
