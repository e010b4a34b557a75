//! Constrained beam search: sequences that contain what they must.

use llm_numerics::Float;
use ndarray::ArrayRef2;

use super::beam::{BeamConfig, Bookkeeping};
use super::beam_rows::{BeamRow, BeamRows, Decision, Ended, best_sum};
use super::best::{Best, Candidate};
use super::constraint_progress::Progress;
use super::hypothesis::Hypothesis;
use super::log_probs::{self, LogProbs};
use crate::generate::StopReason;
use crate::{Processor, SamplingError};

/// Tokens that must come one after the other, or one of several such phrases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Constraint {
    alternatives: Vec<Vec<u32>>,
}

impl Constraint {
    /// These tokens, in this order, without others between them.
    #[must_use]
    pub fn phrase(tokens: Vec<u32>) -> Self {
        Self {
            alternatives: vec![tokens],
        }
    }

    /// One of these phrases.
    #[must_use]
    pub const fn any_of(phrases: Vec<Vec<u32>>) -> Self {
        Self {
            alternatives: phrases,
        }
    }

    /// The phrases of which one is enough.
    #[must_use]
    pub fn alternatives(&self) -> &[Vec<u32>] {
        &self.alternatives
    }

    pub(super) fn longest(&self) -> usize {
        self.alternatives.iter().map(Vec::len).max().unwrap_or(0)
    }

    pub(super) fn has_prefix(&self, tokens: &[u32]) -> bool {
        self.alternatives.iter().any(|a| a.starts_with(tokens))
    }

    fn validate(&self, constraint: usize, config: &BeamConfig) -> Result<(), SamplingError> {
        let Some(shortest) = self
            .alternatives
            .iter()
            .map(Vec::len)
            .min()
            .filter(|n| *n > 0)
        else {
            return Err(SamplingError::EmptyConstraint { constraint });
        };
        let mut tokens = self.alternatives.iter().flatten();
        if let Some(&token) = tokens.find(|token| config.stop_ids.contains(token)) {
            return Err(SamplingError::ConstraintStop { constraint, token });
        }
        for (i, a) in self.alternatives.iter().enumerate() {
            let mut others = self.alternatives.iter().enumerate();
            if others.any(|(j, b)| i != j && b.starts_with(a)) {
                return Err(SamplingError::ConstraintPrefix { constraint });
            }
        }
        if shortest > config.max_new_tokens {
            return Err(SamplingError::ConstraintLen {
                constraint,
                shortest,
                max_new_tokens: config.max_new_tokens,
            });
        }
        Ok(())
    }
}

/// What counts as fulfilled, and which candidates there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConstraintRule {
    /// A phrase counts wherever it occurs in the new tokens; phrases may overlap. A bank is the number of tokens fulfilled. Besides the best
    /// candidates and those that fulfill a token, each beam offers its own best continuation, so that a sequence that has fulfilled all
    /// cannot get lost: Post and Vilar 2018.
    Occurs,
    /// transformers 4.49: the prompt counts too; constraints are walked through one after the other, a wrong token in the middle of one
    /// undoes it and cannot start another; a bank counts each constraint that is done as the longest one. No beam offers a continuation of
    /// its own, so that a sequence that has fulfilled all can be crowded out.
    Transformers,
}

/// Beam search for sequences that fulfill constraints.
///
/// ```text
/// candidates = the first n_beams of a beam search that do not end,
///              each beam with each token that brings its constraints further,
///              and (Occurs) each beam with its best token
/// bank       = number of steps towards all constraints that a candidate has made
/// beams      = the best of each bank, from the highest bank to the lowest, then the second of each bank, and so on: n_beams in all
/// ```
///
/// Taking turns splits the beams evenly between the banks, and leaves the place of a bank that runs out to the others. A stop token ends a
/// sequence only if it has fulfilled all constraints. If none has at the last step, the best of the others are returned, with the number of
/// [`unmet`](Hypothesis::unmet) constraints; those with fewer come first.
///
/// With [`ConstraintRule::Occurs`] all constraints are fulfilled if `max_new_tokens` is at least the sum of their longest alternatives and no
/// processor masks out a token.
///
/// See [`BeamSearch`](super::beam::BeamSearch) for rows, tokens and parents.
///
/// # Precision
///
/// That of [`BeamSearch`](super::beam::BeamSearch). Banks are compared before sums (transformers adds them: 100 for a bank).
///
/// # Example
///
/// ```
/// use llm_sampling::search::beam::BeamConfig;
/// use llm_sampling::search::constrained::{ConstrainedBeamSearch, Constraint, ConstraintRule};
/// use llm_sampling::{Candidates, Context, SamplingError};
/// use ndarray::{Array2, array};
///
/// let unchanged = |_: &mut Candidates<f64>, _: &Context<'_>| Ok::<(), SamplingError>(());
/// let row = array![0.7_f64, 0.2, 0.06, 0.04].ln(); // whatever came before
/// let constraints = [Constraint::phrase(vec![3, 2])];
/// let config = BeamConfig::textbook(3, 4);
/// let mut search = ConstrainedBeamSearch::new(&[[0]], &config, &constraints, ConstraintRule::Occurs)?;
/// while !search.is_done() {
///     search.step(&Array2::from_shape_fn([3, 4], |(_, token)| row[token]), &unchanged)?;
/// }
/// let best = &search.finish()[0][0];
/// assert_eq!(best.unmet, 0);
/// assert_eq!(best.log_probabilities.iter().sum::<f64>(), best.sum);
/// assert!(best.tokens.windows(2).any(|pair| pair == [3, 2]));
/// # Ok::<(), SamplingError>(())
/// ```
///
/// Source: Hokamp and Liu 2017, arXiv:1704.07138v2; Post and Vilar 2018, arXiv:1804.06609v2; `ConstrainedBeamSearchScorer` of transformers
/// 4.49, with [`Bookkeeping::Scorer`].
#[derive(Clone, Debug)]
pub struct ConstrainedBeamSearch {
    rows: BeamRows,
    constraints: Vec<Constraint>,
    rule: ConstraintRule,
    /// One for each running beam of each row.
    progress: Vec<Vec<Progress>>,
}

impl ConstrainedBeamSearch {
    /// A search from each prompt, with the same constraints for all.
    ///
    /// # Errors
    ///
    /// - Those of [`BeamSearch::new`](super::beam::BeamSearch::new).
    /// - [`SamplingError::EmptyConstraint`], [`SamplingError::ConstraintPrefix`].
    /// - [`SamplingError::ConstraintLen`] if a constraint is longer than `max_new_tokens`.
    /// - [`SamplingError::ConstraintStop`] if a constraint has a stop token.
    pub fn new<T: AsRef<[u32]>>(
        prompts: &[T],
        config: &BeamConfig,
        constraints: &[Constraint],
        rule: ConstraintRule,
    ) -> Result<Self, SamplingError> {
        let rows = BeamRows::new(prompts, config, 1)?;
        for (i, constraint) in constraints.iter().enumerate() {
            constraint.validate(i, config)?;
        }
        let start = |prompt: &Vec<u32>| {
            let mut progress = Progress::new(constraints);
            if rule == ConstraintRule::Transformers {
                for (i, &token) in prompt.iter().enumerate() {
                    progress = progress.with(&prompt[..i], token, constraints, rule);
                }
            }
            vec![progress]
        };
        Ok(Self {
            progress: rows.prompts.iter().map(start).collect(),
            rows,
            constraints: constraints.to_vec(),
            rule,
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

    /// As [`BeamSearch::tokens`](super::beam::BeamSearch::tokens).
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
    /// [`SamplingError::ConstraintToken`] if the vocabulary does not have a token of a constraint, and those of
    /// [`BeamSearch::step`](super::beam::BeamSearch::step). On an error, nothing has changed.
    pub fn step<F: Float, P: Processor<F> + ?Sized>(
        &mut self,
        logits: &ArrayRef2<F>,
        processor: &P,
    ) -> Result<(), SamplingError> {
        self.rows.check(logits)?;
        let vocab = logits.ncols();
        for (constraint, c) in self.constraints.iter().enumerate() {
            let mut tokens = c.alternatives.iter().flatten();
            if let Some(&token) = tokens.find(|token| **token as usize >= vocab) {
                return Err(SamplingError::ConstraintToken {
                    constraint,
                    token,
                    vocab,
                });
            }
        }
        let mut memory = LogProbs::new();
        let mut decisions = Vec::with_capacity(self.rows.rows.len());
        let mut progress = Vec::with_capacity(self.rows.rows.len());
        for (i, row) in self.rows.rows.iter().enumerate() {
            let (decision, next) = if row.done {
                Default::default()
            } else {
                self.decide(i, row, logits, processor, &mut memory)?
            };
            decisions.push(decision);
            progress.push(next);
        }
        self.rows.apply(&decisions);
        self.progress = progress;
        Ok(())
    }

    fn decide<F: Float, P: Processor<F> + ?Sized>(
        &self,
        index: usize,
        row: &BeamRow,
        logits: &ArrayRef2<F>,
        processor: &P,
        memory: &mut LogProbs<F>,
    ) -> Result<(Decision, Vec<Progress>), SamplingError> {
        let config = &self.rows.config;
        let states = &self.progress[index];
        let mut best = Best::new(config.n_candidates(row.width));
        let mut advances = Vec::new();
        let mut own_best = Vec::new();
        let takes_own = self.rule == ConstraintRule::Occurs && !self.constraints.is_empty();
        self.rows
            .for_each_beam(row, logits, processor, memory, |beam, b, c| {
                let candidate = |token, log_probability: f64| Candidate {
                    beam,
                    token,
                    log_probability,
                    sum: b.sum + log_probability,
                };
                let mut own = Best::new(1);
                for (token, log_probability) in log_probs::tokens(c) {
                    best.push(candidate(token, log_probability));
                    if takes_own && !config.stop_ids.contains(&token) {
                        own.push(candidate(token, log_probability));
                    }
                }
                own_best.extend(own.into_sorted());
                if states[beam].unmet() > 0 {
                    let tokens = states[beam].next_tokens(&self.constraints);
                    let advance = tokens
                        .into_iter()
                        .map(|token| candidate(token, log_probs::of_token(c, token)));
                    advances.extend(advance.filter(|c| c.sum > f64::NEG_INFINITY));
                }
            })?;

        let candidates = best.into_sorted();
        let mut decision = Decision {
            best: best_sum(&candidates),
            ..Decision::default()
        };
        let only_first = row.is_last(config) && config.bookkeeping == Bookkeeping::Vectorized;
        let mut pool = Vec::new();
        for (rank, &candidate) in candidates.iter().enumerate() {
            if !config.stop_ids.contains(&candidate.token) {
                if pool.len() < row.width && (rank < row.width || !only_first) {
                    pool.push(candidate);
                }
            } else if rank < row.width && states[candidate.beam].unmet() == 0 {
                let stop = StopReason::StopToken(candidate.token);
                decision.ended.push(Ended::new(candidate, stop));
            }
        }
        advances.extend(own_best);
        for candidate in advances {
            let same = |c: &Candidate| (c.beam, c.token) == (candidate.beam, candidate.token);
            if !pool.iter().any(same) {
                pool.push(candidate);
            }
        }
        let chosen = self.take_turns(row, states, pool);
        if row.is_last(config) {
            for (candidate, state) in &chosen {
                let mut ended = Ended::new(*candidate, StopReason::MaxNewTokens);
                ended.unmet = state.unmet();
                decision.ended.push(ended);
            }
            return Ok((decision, Vec::new()));
        }
        let (running, states) = chosen.into_iter().unzip();
        decision.running = running;
        Ok((decision, states))
    }

    /// The best of each bank, then the second of each, the highest bank first, until there are enough beams.
    fn take_turns(
        &self,
        row: &BeamRow,
        states: &[Progress],
        pool: Vec<Candidate>,
    ) -> Vec<(Candidate, Progress)> {
        let mut ranked: Vec<(usize, Candidate, Progress)> = pool
            .into_iter()
            .map(|c| {
                let before = &row.running[c.beam].tokens;
                let state = states[c.beam].with(before, c.token, &self.constraints, self.rule);
                (state.bank(&self.constraints, self.rule), c, state)
            })
            .collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.order(&b.1)));
        let (mut turn, mut bank) = (0, None);
        let mut turns = Vec::new();
        for (b, candidate, state) in ranked {
            turn = if bank == Some(b) { turn + 1 } else { 0 };
            bank = Some(b);
            turns.push((turn, candidate, state));
        }
        turns.sort_by_key(|(turn, ..)| *turn); // stable
        let chosen = turns.into_iter().take(row.width);
        chosen
            .map(|(_, candidate, state)| (candidate, state))
            .collect()
    }

    /// As [`BeamSearch::finish`](super::beam::BeamSearch::finish); hypotheses that fulfill more constraints come first.
    #[must_use]
    pub fn finish(self) -> Vec<Vec<Hypothesis>> {
        let progress = self.progress;
        self.rows.finish(|row, beam| progress[row][beam].unmet())
    }
}
