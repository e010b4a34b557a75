//! Beam-sample: beams that are drawn, not taken from the top.

use llm_numerics::{Float, simd};
use ndarray::ArrayRef2;

use super::beam::{BeamConfig, Bookkeeping};
use super::beam_rows::{BeamRows, Decision};
use super::best::Candidate;
use super::hypothesis::Hypothesis;
use super::log_probs::{self, LogProbs};
use crate::{Processor, RowRandom, SamplingError, categorical};

/// Number of the first draw of a candidate, far from those of processors.
const FIRST_DRAW: u16 = 1 << 15;

/// Beam search that draws its candidates without replacement.
///
/// ```text
/// P = softmax of  s(y) + processed ln p(v | y)  over all beams y and tokens v of a prompt
/// candidate k = the inverse CDF at u_k of what the candidates before it have left of P, by beam and id;  k < n_candidates
/// the rest as in BeamSearch, with candidates in the order in which they were drawn
/// ```
///
/// Successive draws of what is left are what `torch.multinomial` and the top of Gumbel-perturbed sums have the distribution of
/// (Plackett-Luce); the numbers that lead to a token are others. A draw takes one uniform number: `draw 32768 + k` of [`RowRandom`] by seed,
/// stream of the prompt and step, or the caller's own.
///
/// See [`BeamSearch`](super::beam::BeamSearch) for rows, tokens and parents.
///
/// # Precision
///
/// Sums of log-probabilities and probabilities are in `f64`, summed in blocks by beam, then id.
///
/// # Example
///
/// ```
/// use llm_sampling::search::beam::BeamConfig;
/// use llm_sampling::search::beam_sample::BeamSample;
/// use llm_sampling::{Candidates, Context, SamplingError};
/// use ndarray::{Array2, array};
///
/// let unchanged = |_: &mut Candidates<f64>, _: &Context<'_>| Ok::<(), SamplingError>(());
/// let mut search = BeamSample::new(&[[0]], &BeamConfig::transformers(1, 1), 0, &[0])?;
/// // Two candidates of 0.5, 0.25, 0.25: the first at 0.6 is token 1, the second at 0.6 of the remaining 0.75 is token 0.
/// let logits = array![[0.5_f64, 0.25, 0.25]].ln();
/// search.step_with(&logits, &unchanged, &array![[0.6, 0.6]])?;
/// assert_eq!(search.finish()[0][0].tokens, [1]);
/// # Ok::<(), SamplingError>(())
/// ```
///
/// Source: `GenerationMixin._beam_search` of transformers 5.23 with `do_sample`; Kool et al. 2019, arXiv:1903.06059v2 §2 on draws without
/// replacement.
#[derive(Clone, Debug)]
pub struct BeamSample {
    rows: BeamRows,
}

impl BeamSample {
    /// A search from each prompt, with a stream of random numbers for each, so that it does not matter which prompts run together.
    ///
    /// # Errors
    ///
    /// - Those of [`BeamSearch::new`](super::beam::BeamSearch::new).
    /// - [`SamplingError::BeamStreams`] if there is not one stream for each prompt.
    /// - [`SamplingError::BeamDraws`] if a step would need more than 32768 draws.
    pub fn new<T: AsRef<[u32]>>(
        prompts: &[T],
        config: &BeamConfig,
        seed: u64,
        streams: &[u64],
    ) -> Result<Self, SamplingError> {
        let rows = BeamRows::new(prompts, config, 1)?.with_random(seed, streams)?;
        let draws = config.n_candidates(config.n_beams);
        if draws > usize::from(FIRST_DRAW) {
            return Err(SamplingError::BeamDraws(draws));
        }
        Ok(Self { rows })
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

    /// Takes the logits that follow [`tokens`](Self::tokens), and draws with the numbers of the seed.
    ///
    /// The processor's context has the random numbers of the seed, the prompt's stream and the step.
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
        let prompts = 0..self.rows.prompts.len();
        let random: Vec<RowRandom> = prompts.map(|prompt| self.rows.random(prompt)).collect();
        self.advance(logits, processor, |prompt, k| {
            random[prompt].uniform(FIRST_DRAW + k as u16)
        })
    }

    /// The same with the caller's uniform numbers.
    ///
    /// # Shapes
    ///
    /// - `uniforms`: `[prompts, n_candidates]`, each in `[0, 1)`; see [`BeamConfig::n_candidates`]
    ///
    /// # Errors
    ///
    /// [`SamplingError::BeamUniforms`], [`SamplingError::Uniform`], and those of [`step`](Self::step).
    pub fn step_with<F: Float, P: Processor<F> + ?Sized>(
        &mut self,
        logits: &ArrayRef2<F>,
        processor: &P,
        uniforms: &ArrayRef2<f64>,
    ) -> Result<(), SamplingError> {
        let config = &self.rows.config;
        let expected = (self.rows.prompts.len(), config.n_candidates(config.n_beams));
        if uniforms.dim() != expected {
            return Err(SamplingError::BeamUniforms {
                expected: expected.into(),
                got: uniforms.dim().into(),
            });
        }
        uniforms
            .iter()
            .try_for_each(|&u| categorical::check_uniform(u))?;
        self.advance(logits, processor, |prompt, k| uniforms[[prompt, k]])
    }

    fn advance<F: Float, P: Processor<F> + ?Sized>(
        &mut self,
        logits: &ArrayRef2<F>,
        processor: &P,
        uniform: impl Fn(usize, usize) -> f64,
    ) -> Result<(), SamplingError> {
        self.rows.check(logits)?;
        let config = &self.rows.config;
        let mut memory = LogProbs::new();
        let mut decisions = Vec::with_capacity(self.rows.rows.len());
        let mut pool = Pool::default();
        for row in &self.rows.rows {
            if row.done {
                decisions.push(Decision::default());
                continue;
            }
            pool.clear();
            self.rows
                .for_each_beam(row, logits, processor, &mut memory, |beam, b, c| {
                    pool.add(beam, b.sum, log_probs::tokens(c));
                })?;
            let n = config.n_candidates(row.width);
            let mut drawn = pool.draw(n, |k| uniform(row.prompt, k));
            if config.bookkeeping == Bookkeeping::Scorer {
                drawn.sort_by(Candidate::order);
            }
            decisions.push(row.decide(&drawn, config));
        }
        self.rows.apply(&decisions);
        Ok(())
    }

    /// As [`BeamSearch::finish`](super::beam::BeamSearch::finish).
    #[must_use]
    pub fn finish(self) -> Vec<Vec<Hypothesis>> {
        self.rows.finish(|_, _| 0)
    }
}

/// Weights that are summed together: a draw looks at the sums first, then into one of these.
const BLOCK: usize = 1024;

/// All candidates of a prompt.
#[derive(Debug, Default)]
struct Pool {
    /// Beam, its sum, and the number of candidates before its own.
    beams: Vec<(usize, f64, usize)>,
    tokens: Vec<u32>,
    log_probabilities: Vec<f64>,
}

impl Pool {
    fn clear(&mut self) {
        self.beams.clear();
        self.tokens.clear();
        self.log_probabilities.clear();
    }

    fn add(&mut self, beam: usize, sum: f64, tokens: impl Iterator<Item = (u32, f64)>) {
        self.beams.push((beam, sum, self.tokens.len()));
        for (token, log_probability) in tokens {
            self.tokens.push(token);
            self.log_probabilities.push(log_probability);
        }
    }

    fn candidate(&self, index: usize) -> Candidate {
        let after = self.beams.partition_point(|(.., start)| *start <= index);
        let (beam, sum, _) = self.beams[after - 1];
        Candidate {
            beam,
            token: self.tokens[index],
            log_probability: self.log_probabilities[index],
            sum: sum + self.log_probabilities[index],
        }
    }

    /// `n` draws without replacement from the softmax of the sums; fewer if no more have a probability above 0.
    fn draw(&self, n: usize, uniform: impl Fn(usize) -> f64) -> Vec<Candidate> {
        let mut weights = self.log_probabilities.clone();
        let ends = self.beams.iter().skip(1).map(|(.., start)| *start);
        let ends = ends.chain([weights.len()]);
        for ((_, sum, start), end) in self.beams.iter().zip(ends) {
            weights[*start..end].iter_mut().for_each(|w| *w += sum);
        }
        let max = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if max == f64::NEG_INFINITY {
            return Vec::new();
        }
        simd::vectorize(
            #[inline(always)]
            || weights.iter_mut().for_each(|w| *w = (*w - max).fast_exp()),
        );
        let mut blocks: Vec<f64> = weights.chunks(BLOCK).map(|b| b.iter().sum()).collect();
        let mut drawn = Vec::new();
        for k in 0..n {
            let total: f64 = blocks.iter().sum();
            if !(total > 0.0) {
                break;
            }
            let target = uniform(k) * total;
            let block = categorical::pick(blocks.iter().copied(), target);
            let before: f64 = blocks[..block].iter().sum();
            let range = block * BLOCK..weights.len().min((block + 1) * BLOCK);
            let inside = weights[range.clone()].iter().copied();
            let index = range.start + categorical::pick(inside, target - before);
            drawn.push(self.candidate(index));
            weights[index] = 0.0;
            blocks[block] = weights[range].iter().sum();
        }
        drawn
    }
}
