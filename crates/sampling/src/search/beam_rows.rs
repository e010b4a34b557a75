//! The beams of each prompt, what has ended there, and when to stop.

use llm_numerics::Float;
use ndarray::{ArrayRef2, Axis};

use super::beam::{BeamConfig, Bookkeeping, EarlyStopping};
use super::best::{Best, Candidate};
use super::hypothesis::Hypothesis;
use super::log_probs::{LogProbs, tokens};
use crate::generate::StopReason;
use crate::{Candidates, Context, Processor, RowRandom, SamplingError};

/// A sequence that goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Beam {
    pub(super) tokens: Vec<u32>,
    pub(super) log_probabilities: Vec<f64>,
    pub(super) rows: Vec<usize>,
    pub(super) sum: f64,
}

impl Beam {
    /// This beam with one more token, chosen from `row`.
    fn with(&self, candidate: &Candidate, row: usize) -> Self {
        let mut next = self.clone();
        next.tokens.push(candidate.token);
        next.log_probabilities.push(candidate.log_probability);
        next.rows.push(row);
        next.sum = candidate.sum;
        next
    }
}

/// The beams of a prompt, or of one group of them.
#[derive(Clone, Debug)]
pub(super) struct BeamRow {
    /// Index of the prompt.
    pub(super) prompt: usize,
    /// Row of the logits of the first beam.
    pub(super) first: usize,
    /// Beams at most.
    pub(super) width: usize,
    /// The best first; at the start one.
    pub(super) running: Vec<Beam>,
    /// The best first.
    ended: Vec<Hypothesis>,
    pub(super) done: bool,
}

/// What becomes of a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Decision {
    pub(super) running: Vec<Candidate>,
    pub(super) ended: Vec<Ended>,
    /// The sum of the best candidate, ended or not.
    pub(super) best: f64,
}

/// A candidate that ends its beam.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) candidate: Candidate,
    pub(super) stop: StopReason,
    pub(super) unmet: usize,
}

impl Ended {
    pub(super) const fn new(candidate: Candidate, stop: StopReason) -> Self {
        Self {
            candidate,
            stop,
            unmet: 0,
        }
    }
}

impl BeamRow {
    /// Splits candidates, the most wanted first, into those that end and the best that go on.
    ///
    /// Of the candidates that end, only the first `width` are kept: the others came along so that enough are left to go on.
    pub(super) fn decide(&self, candidates: &[Candidate], config: &BeamConfig) -> Decision {
        let mut decision = Decision {
            best: best_sum(candidates),
            ..Decision::default()
        };
        let mut others = Vec::new();
        for (rank, &candidate) in candidates.iter().enumerate() {
            if !config.stop_ids.contains(&candidate.token) {
                others.push((rank, candidate));
            } else if rank < self.width {
                let stop = StopReason::StopToken(candidate.token);
                decision.ended.push(Ended::new(candidate, stop));
            }
        }
        if self.is_last(config) {
            let ends = others.iter().enumerate().filter(|(i, (rank, _))| {
                let place = match config.bookkeeping {
                    Bookkeeping::Vectorized => *rank,
                    Bookkeeping::Scorer => *i,
                };
                place < self.width
            });
            let ends = ends.map(|(_, (_, c))| Ended::new(*c, StopReason::MaxNewTokens));
            decision.ended.extend(ends);
        } else {
            decision.running.extend(others.into_iter().map(|(_, c)| c));
            decision.running.sort_by(Candidate::order);
            decision.running.truncate(self.width);
        }
        decision
    }

    /// True if the next token is the last that is allowed.
    pub(super) fn is_last(&self, config: &BeamConfig) -> bool {
        self.generated() + 1 >= config.max_new_tokens
    }

    /// Tokens that were made: the same number in all running beams.
    fn generated(&self) -> usize {
        self.running.first().map_or(0, |beam| beam.tokens.len())
    }

    fn apply(&mut self, decision: &Decision, prompt_len: usize, config: &BeamConfig) {
        let generated = self.generated() + 1;
        let length = match config.early_stopping {
            EarlyStopping::Never if config.length.favors_long() => config.max_new_tokens,
            _ => generated,
        };
        let bound = |sum| config.length.bound(sum, length, prompt_len);
        let candidates = bound(decision.best);
        let stopped = |ended: &&Ended| matches!(ended.stop, StopReason::StopToken(_));
        for ended in decision.ended.iter().filter(stopped) {
            self.keep(ended, prompt_len, config);
        }
        let late = config.bookkeeping == Bookkeeping::Scorer;
        if !(late && self.has_enough(candidates, config)) {
            for ended in decision.ended.iter().filter(|ended| !stopped(ended)) {
                self.keep(ended, prompt_len, config);
            }
        }
        let extended = decision.running.iter().map(|c| self.extend(c));
        self.running = extended.collect();
        let best = match config.bookkeeping {
            Bookkeeping::Vectorized => self.running.first().map(|beam| bound(beam.sum)),
            Bookkeeping::Scorer => Some(candidates),
        };
        self.done =
            best.is_none_or(|best| self.has_enough(best, config)) || self.running.is_empty();
    }

    /// True if there are hypotheses for all beams, and no better one is to be expected.
    fn has_enough(&self, bound: f64, config: &BeamConfig) -> bool {
        let worst = self.ended.last().map_or(f64::NEG_INFINITY, |h| h.score);
        self.ended.len() >= self.width
            && (config.early_stopping == EarlyStopping::WhenFull || bound <= worst)
    }

    fn keep(&mut self, ended: &Ended, prompt_len: usize, config: &BeamConfig) {
        let beam = self.extend(&ended.candidate);
        self.end(beam, ended.stop, ended.unmet, prompt_len, config);
    }

    fn extend(&self, candidate: &Candidate) -> Beam {
        self.running[candidate.beam].with(candidate, self.first + candidate.beam)
    }

    /// Adds a hypothesis behind those that are as good, and drops the worst if there are too many.
    fn end(
        &mut self,
        beam: Beam,
        stop: StopReason,
        unmet: usize,
        prompt_len: usize,
        config: &BeamConfig,
    ) {
        let stopped = matches!(stop, StopReason::StopToken(_));
        let hypothesis = Hypothesis {
            score: config
                .length
                .score(beam.sum, beam.tokens.len(), stopped, prompt_len),
            sum: beam.sum,
            tokens: beam.tokens,
            log_probabilities: beam.log_probabilities,
            beam_indices: beam.rows,
            stop,
            unmet,
        };
        let place = self.ended.partition_point(|h| h.order(&hypothesis).is_le());
        self.ended.insert(place, hypothesis);
        self.ended.truncate(self.width);
    }
}

/// The largest sum.
pub(super) fn best_sum(candidates: &[Candidate]) -> f64 {
    let sums = candidates.iter().map(|c| c.sum);
    sums.fold(f64::NEG_INFINITY, f64::max)
}

/// The beams of all prompts: what the searches have in common.
#[derive(Clone, Debug)]
pub(super) struct BeamRows {
    pub(super) config: BeamConfig,
    pub(super) prompts: Vec<Vec<u32>>,
    /// One for each prompt, or for each of its groups.
    pub(super) rows: Vec<BeamRow>,
    steps: usize,
    n_groups: usize,
    seed: u64,
    /// Of random numbers, one for each prompt.
    streams: Vec<u64>,
}

impl BeamRows {
    pub(super) fn new<T: AsRef<[u32]>>(
        prompts: &[T],
        config: &BeamConfig,
        n_groups: usize,
    ) -> Result<Self, SamplingError> {
        config.validate()?;
        let n_beams = config.n_beams;
        if n_groups == 0 || !n_beams.is_multiple_of(n_groups) {
            return Err(SamplingError::BeamGroups { n_groups, n_beams });
        }
        let limit = u32::MAX as usize;
        if prompts.len().checked_mul(n_beams).is_none_or(|n| n > limit) {
            return Err(SamplingError::BeamRowsOverflow {
                prompts: prompts.len(),
                n_beams,
            });
        }
        if prompts.iter().any(|prompt| prompt.as_ref().is_empty()) {
            return Err(SamplingError::EmptyPrompt);
        }
        let width = n_beams / n_groups;
        let mut rows = Vec::new();
        for (prompt, tokens) in prompts.iter().enumerate() {
            for group in 0..n_groups {
                let mut row = BeamRow {
                    prompt,
                    first: prompt * n_beams + group * width,
                    width,
                    running: vec![Beam::default()],
                    ended: Vec::new(),
                    done: config.max_new_tokens == 0,
                };
                if row.done {
                    let (reason, len) = (StopReason::MaxNewTokens, tokens.as_ref().len());
                    row.end(Beam::default(), reason, 0, len, config);
                    row.running.clear();
                }
                rows.push(row);
            }
        }
        Ok(Self {
            config: config.clone(),
            prompts: prompts.iter().map(|p| p.as_ref().to_vec()).collect(),
            rows,
            steps: 0,
            n_groups,
            seed: 0,
            streams: vec![0; prompts.len()],
        })
    }

    /// The same with other random numbers than those of seed 0 and stream 0.
    pub(super) fn with_random(mut self, seed: u64, streams: &[u64]) -> Result<Self, SamplingError> {
        if streams.len() != self.prompts.len() {
            return Err(SamplingError::BeamStreams {
                expected: self.prompts.len(),
                got: streams.len(),
            });
        }
        self.seed = seed;
        self.streams = streams.to_vec();
        Ok(self)
    }

    /// The random numbers of a prompt at this step.
    pub(super) fn random(&self, prompt: usize) -> RowRandom {
        RowRandom::new(self.seed, self.streams[prompt], self.steps as u64)
    }

    pub(super) fn n_rows(&self) -> usize {
        self.prompts.len() * self.config.n_beams
    }

    pub(super) fn is_done(&self) -> bool {
        self.rows.iter().all(|row| row.done)
    }

    /// The beams that go on, with their rows of the logits.
    fn live(&self) -> impl Iterator<Item = (usize, &BeamRow, &Beam)> {
        self.rows.iter().filter(|row| !row.done).flat_map(|row| {
            let beams = row.running.iter().enumerate();
            beams.map(move |(i, beam)| (row.first + i, row, beam))
        })
    }

    pub(super) fn tokens(&self) -> Vec<u32> {
        let mut tokens = vec![self.config.pad_id; self.n_rows()];
        for (i, row, beam) in self.live() {
            let last = beam.tokens.last().or(self.prompts[row.prompt].last());
            tokens[i] = last.copied().unwrap_or(self.config.pad_id);
        }
        tokens
    }

    pub(super) fn parents(&self) -> Vec<usize> {
        let mut parents: Vec<usize> = (0..self.n_rows()).collect();
        for (i, _, beam) in self.live() {
            parents[i] = beam.rows.last().copied().unwrap_or(i);
        }
        parents
    }

    pub(super) fn sequence(&self, row: usize) -> Option<Vec<u32>> {
        let (_, row, beam) = self.live().find(|(i, ..)| *i == row)?;
        let prompt = &self.prompts[row.prompt];
        Some(prompt.iter().chain(&beam.tokens).copied().collect())
    }

    /// Refuses logits that are not one row for each beam, and a step after the end.
    pub(super) fn check<F: Float>(&self, logits: &ArrayRef2<F>) -> Result<(), SamplingError> {
        if self.is_done() {
            return Err(SamplingError::SearchDone);
        }
        if logits.nrows() != self.n_rows() {
            return Err(SamplingError::BeamLogits {
                expected: self.n_rows(),
                got: logits.nrows(),
            });
        }
        Ok(())
    }

    /// Calls `work` with the log-probabilities of each beam of a row.
    pub(super) fn for_each_beam<F: Float, P: Processor<F> + ?Sized>(
        &self,
        row: &BeamRow,
        logits: &ArrayRef2<F>,
        processor: &P,
        log_probs: &mut LogProbs<F>,
        mut work: impl FnMut(usize, &Beam, &Candidates<F>),
    ) -> Result<(), SamplingError> {
        for (i, beam) in row.running.iter().enumerate() {
            let prompt = &self.prompts[row.prompt];
            let mut context =
                Context::new(prompt, &beam.tokens).with_random(self.random(row.prompt));
            context.row = row.first + i;
            let lane = logits.index_axis(Axis(0), row.first + i);
            work(i, beam, log_probs.process(&lane, &context, processor)?);
        }
        Ok(())
    }

    /// The best candidates of a row, the best first; `price` is taken from the sum of each token.
    pub(super) fn best<F: Float, P: Processor<F> + ?Sized>(
        &self,
        row: &BeamRow,
        logits: &ArrayRef2<F>,
        processor: &P,
        log_probs: &mut LogProbs<F>,
        price: impl Fn(u32) -> f64,
    ) -> Result<Vec<Candidate>, SamplingError> {
        let mut best = Best::new(self.config.n_candidates(row.width));
        self.for_each_beam(row, logits, processor, log_probs, |beam, b, candidates| {
            for (token, log_probability) in tokens(candidates) {
                best.push(Candidate {
                    beam,
                    token,
                    log_probability,
                    sum: b.sum + log_probability - price(token),
                });
            }
        })?;
        Ok(best.into_sorted())
    }

    /// Takes the decisions, one for each row (rows that are done have an empty one).
    pub(super) fn apply(&mut self, decisions: &[Decision]) {
        for (row, decision) in self.rows.iter_mut().zip(decisions) {
            if !row.done {
                let prompt_len = self.prompts[row.prompt].len();
                row.apply(decision, prompt_len, &self.config);
            }
        }
        self.steps += 1;
    }

    /// The hypotheses of each prompt, the best first. What still goes on ends here; `unmet` counts its constraints.
    pub(super) fn finish(mut self, unmet: impl Fn(usize, usize) -> usize) -> Vec<Vec<Hypothesis>> {
        for (i, row) in self.rows.iter_mut().enumerate() {
            let prompt_len = self.prompts[row.prompt].len();
            if !row.done {
                for (k, beam) in core::mem::take(&mut row.running).into_iter().enumerate() {
                    row.end(
                        beam,
                        StopReason::Callback,
                        unmet(i, k),
                        prompt_len,
                        &self.config,
                    );
                }
            }
        }
        let mut prompts = vec![Vec::new(); self.prompts.len()];
        for row in self.rows {
            prompts[row.prompt].extend(row.ended);
        }
        for hypotheses in &mut prompts {
            if self.n_groups > 1 {
                hypotheses.sort_by(Hypothesis::order);
            }
            hypotheses.truncate(self.config.n_return);
        }
        prompts
    }
}
