//! Speculative decoding: a cheap model drafts tokens, the real one checks them all in one pass.

mod draft;
mod residual;

use llm_numerics::Float;
use ndarray::{ArrayRef2, ArrayRef3, ArrayView1, s};

pub use draft::{DraftSchedule, apply_inplace};
pub use residual::{accept_probabilities, accept_rate, residual};

use crate::weights::Softmax;
use crate::{RowRandom, SamplingError, categorical, greedy, rows};

/// Which of a step's [`RowRandom::uniform`] numbers the draft model is to draw its token with.
///
/// Number 0 would not do: [`verify`] chooses with it after a rejection, which must not know what was drafted.
pub const DRAFT_DRAW: u16 = u16::MAX - 1;

/// Which of a step's [`RowRandom::uniform`] numbers decides whether a drafted token is accepted.
pub const ACCEPT_DRAW: u16 = u16::MAX;

/// How the drafted tokens of a row are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RowMode<'a> {
    /// They must be what greedy decoding of the target gives. The draft's logits are not looked at.
    Greedy,
    /// They are accepted so that all tokens follow the target's distribution. The step is that of the first drafted token; token `i` has
    /// the numbers [`ACCEPT_DRAW`] and 0 of step `step + i`.
    Sample(RowRandom),
    /// The same with the caller's numbers in `[0, 1)`: `accept[i]` for drafted token `i`, `choose[i]` where a token comes in its place,
    /// `choose[draft_len]` after all of them. Longer lists are fine.
    Uniforms {
        /// `[draft_len]`
        accept: &'a [f64],
        /// `[draft_len + 1]`
        choose: &'a [f64],
    },
}

/// What came of a row's draft.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// How many drafted tokens there were.
    pub drafted: usize,
    /// How many of them were accepted, from the first.
    pub accepted: usize,
    /// The new tokens: the accepted ones, then one of the target's own.
    pub tokens: Vec<u32>,
    /// Natural logarithm of each token's probability under the target's distribution (for greedy rows, under the softmax of the logits).
    pub log_probabilities: Vec<f64>,
}

impl Verified {
    /// How many of the `1 + drafted` tokens that were fed to the target model (the last token before the draft, then the draft) its cache
    /// is to keep. The newest of [`tokens`](Self::tokens) is not among them: it is fed next.
    #[must_use]
    pub const fn keep(&self) -> usize {
        self.tokens.len()
    }

    /// How many of the newest tokens the target's cache is to be cropped by.
    #[must_use]
    pub const fn crop(&self) -> usize {
        1 + self.drafted - self.tokens.len()
    }

    /// How many of the `drafted` tokens that were fed to the draft model (all but the last of those fed to the target) its cache is to keep.
    ///
    /// Feed it next what the sequence has beyond its cache: one token, or two if the whole draft was accepted.
    #[must_use]
    pub fn draft_keep(&self) -> usize {
        self.tokens.len().min(self.drafted)
    }

    /// Leaves out tokens beyond the first `n`, of which there must be one: a limit on new tokens.
    pub fn limit(&mut self, n: usize) {
        let n = n.max(1);
        self.tokens.truncate(n);
        self.log_probabilities.truncate(n);
        self.accepted = self.accepted.min(n);
    }

    /// Leaves out what follows the first stop token, and returns that one.
    pub fn end_at(&mut self, stop_ids: &[u32]) -> Option<u32> {
        let at = self
            .tokens
            .iter()
            .position(|token| stop_ids.contains(token))?;
        self.limit(at + 1);
        Some(self.tokens[at])
    }
}

/// Accepts a part of each row's draft, and adds one token.
///
/// ```text
/// p_i = softmax(target_i), q_i = softmax(draft_i), x_i the drafted token
/// sampled: accept x_i if u_i < min(1, p_i(x_i) / q_i(x_i)), up to the first that is not;
///          there draw from max(p_i - q_i, 0) / sum, after all of them from p_n
/// greedy:  accept x_i if x_i = argmax target_i, up to the first that is not; then argmax
/// ```
///
/// The tokens of a sampled row then follow `p`, as if the target alone had drawn them, whatever `q` is. For that both logits have to be
/// after the same processors (see [`apply_inplace`] for the target's), and each drafted token drawn from `q_i`, with numbers that are used
/// for nothing else ([`DRAFT_DRAW`]). Without draft logits, `q_i` is certain of its token, as for
/// [`prompt_lookup`](crate::search::prompt_lookup). Without drafted tokens, the token is that of [`categorical::draw`] with number 0.
///
/// A row's tokens depend on that row only, so greedy and sampled rows and any lengths can be mixed.
///
/// # Shapes
///
/// - `target_logits`: `[batch, draft + 1, vocab]`, any strides; row `i` is read up to `draft_lens[i]`, inclusive
/// - `draft_logits`: `[batch, draft, vocab]`
/// - `draft_tokens`: `[batch, draft]`
/// - `draft_lens`, `modes`: `[batch]`
/// - returns: `[batch]`
///
/// # Errors
///
/// - [`SamplingError::Axis`], [`SamplingError::DraftLen`], [`SamplingError::DraftToken`] if the arguments do not fit each other.
/// - [`SamplingError::DraftProbability`] if a sampled row has a token with `q_i(x_i) = 0`.
/// - [`SamplingError::Uniform`], [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`],
///   [`SamplingError::Vocab`], for all positions that may be read, whether the numbers lead there or not.
///
/// # Precision
///
/// Exponentials are computed in `F`, sums and quotients in `f64`. Should rounding leave nothing of `max(p_i - q_i, 0)`, where the exact
/// probability of a rejection is of the size of rounding too, the token is drawn from `p_i`.
///
/// # Example
///
/// ```
/// use llm_sampling::search::speculative::{RowMode, verify};
/// use ndarray::array;
///
/// // A draft of two tokens for one row: the target agrees with the first only.
/// let target = array![[[0.0_f32, 5.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 5.0]]];
/// let verified = verify(&target, None, &array![[1, 1]], &[2], &[RowMode::Greedy])?;
/// assert_eq!(verified[0].accepted, 1);
/// assert_eq!(verified[0].tokens, [1, 0]);
/// assert_eq!(verified[0].crop(), 1); // the second drafted token leaves the cache
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Leviathan, Kalman, Matias 2022, arXiv:2211.17192v2, algorithm 1; Chen et al. 2023, arXiv:2302.01318v1.
pub fn verify<F: Float>(
    target_logits: &ArrayRef3<F>,
    draft_logits: Option<&ArrayRef3<F>>,
    draft_tokens: &ArrayRef2<u32>,
    draft_lens: &[usize],
    modes: &[RowMode<'_>],
) -> Result<Vec<Verified>, SamplingError> {
    let (batch, _, vocab) = target_logits.dim();
    check_draft(target_logits.dim(), draft_tokens, draft_lens)?;
    axis("modes", "batch", batch, modes.len())?;
    if let Some(draft_logits) = draft_logits {
        let draft = draft_logits.dim();
        axis("draft_logits", "batch", batch, draft.0)?;
        axis("draft_logits", "draft", draft_tokens.ncols(), draft.1)?;
        axis("draft_logits", "vocab", vocab, draft.2)?;
    }
    let mut memory = Memory::default();
    let mut verified = Vec::with_capacity(batch);
    for row in 0..batch {
        let n = draft_lens[row];
        let draft = Draft {
            target: (0..=n)
                .map(|i| target_logits.slice(s![row, i, ..]))
                .collect(),
            logits: draft_logits.map(|q| (0..n).map(|i| q.slice(s![row, i, ..])).collect()),
            tokens: (0..n).map(|i| draft_tokens[[row, i]]).collect(),
        };
        let done = match modes[row] {
            RowMode::Greedy => draft.greedy(&mut memory),
            RowMode::Sample(random) => {
                let of = |i: usize, draw| {
                    let step = random.step.wrapping_add(i as u64);
                    RowRandom::new(random.seed, random.stream, step).uniform(draw)
                };
                draft.sample(|i| of(i, ACCEPT_DRAW), |i| of(i, 0), &mut memory)
            }
            RowMode::Uniforms { accept, choose } => {
                if accept.len() < n {
                    axis("accept", "draft_len", n, accept.len())?;
                }
                if choose.len() <= n {
                    axis("choose", "draft_len + 1", n + 1, choose.len())?;
                }
                let mut numbers = accept[..n].iter().chain(&choose[..=n]);
                numbers.try_for_each(|&u| categorical::check_uniform(u))?;
                draft.sample(|i| accept[i], |i| choose[i], &mut memory)
            }
        };
        verified.push(done.map_err(|e| e.in_row(row))?);
    }
    Ok(verified)
}

pub(super) fn axis(
    array: &'static str,
    axis: &'static str,
    expected: usize,
    got: usize,
) -> Result<(), SamplingError> {
    if got != expected {
        return Err(SamplingError::Axis {
            array,
            axis,
            expected,
            got,
        });
    }
    Ok(())
}

/// What logits of shape `[batch, draft + 1, vocab]` ask of a draft.
fn check_draft(
    (batch, positions, vocab): (usize, usize, usize),
    draft_tokens: &ArrayRef2<u32>,
    draft_lens: &[usize],
) -> Result<(), SamplingError> {
    let (rows, draft) = draft_tokens.dim();
    axis("draft_tokens", "batch", batch, rows)?;
    axis("draft_lens", "batch", batch, draft_lens.len())?;
    axis("target_logits", "draft + 1", draft + 1, positions)?;
    for (row, &n) in draft_lens.iter().enumerate() {
        if n > draft {
            return Err(SamplingError::DraftLen {
                row,
                max: draft,
                got: n,
            });
        }
        for position in 0..n {
            let token = draft_tokens[[row, position]];
            if token as usize >= vocab {
                return Err(SamplingError::DraftToken {
                    row,
                    position,
                    token,
                    vocab,
                });
            }
        }
    }
    Ok(())
}

/// One row: logits of `n + 1` positions, of `n` drafted ones, and `n` tokens.
struct Draft<'a, F> {
    target: Vec<ArrayView1<'a, F>>,
    logits: Option<Vec<ArrayView1<'a, F>>>,
    tokens: Vec<u32>,
}

/// A row of logits in a piece, and probabilities.
struct Memory<F> {
    row: Vec<F>,
    p: Vec<f64>,
    q: Vec<f64>,
}

impl<F> Default for Memory<F> {
    fn default() -> Self {
        Self {
            row: Vec::new(),
            p: Vec::new(),
            q: Vec::new(),
        }
    }
}

impl<F: Float> Draft<'_, F> {
    fn greedy(&self, memory: &mut Memory<F>) -> Result<Verified, SamplingError> {
        let mut best = Vec::with_capacity(self.target.len());
        for logits in &self.target {
            best.push(rows::as_slice(logits, &mut memory.row, |row| {
                greedy::argmax_slice(row)
            })?);
        }
        let pairs = best.iter().zip(&self.tokens);
        let accepted = pairs.take_while(|(x, y)| x == y).count();
        best.truncate(accepted + 1);
        let pairs = best.iter().zip(&self.target);
        let log_probabilities = pairs
            .map(|(&token, logits)| {
                let max = logits[token as usize];
                softmax(logits, max, &mut memory.row).log_probability(max)
            })
            .collect();
        Ok(Verified {
            drafted: self.tokens.len(),
            accepted,
            tokens: best,
            log_probabilities,
        })
    }

    fn sample(
        &self,
        accept: impl Fn(usize) -> f64,
        choose: impl Fn(usize) -> f64,
        memory: &mut Memory<F>,
    ) -> Result<Verified, SamplingError> {
        let (p_max, q_max) = self.check(&mut memory.row)?;
        let mut done = Verified {
            drafted: self.tokens.len(),
            accepted: 0,
            tokens: Vec::new(),
            log_probabilities: Vec::new(),
        };
        for (i, &token) in self.tokens.iter().enumerate() {
            let logits = &self.target[i];
            let p = softmax(logits, p_max[i], &mut memory.row);
            let draft = self.logits.as_ref().map(|draft| &draft[i]);
            let q = draft.map(|draft| (draft, softmax(draft, q_max[i], &mut memory.row)));
            let p_token = p.probability(logits[token as usize]);
            let q_token = q.map_or(1.0, |(draft, q)| q.probability(draft[token as usize]));
            if p_token >= q_token || accept(i) * q_token < p_token {
                done.accepted += 1;
                done.tokens.push(token);
                done.log_probabilities
                    .push(p.log_probability(logits[token as usize]));
                continue;
            }
            rows::as_slice(logits, &mut memory.row, |row| p.write(row, &mut memory.p));
            match q {
                Some((draft, q)) => {
                    rows::as_slice(draft, &mut memory.row, |row| q.write(row, &mut memory.q));
                    residual::take_excess(&mut memory.p, &memory.q);
                }
                None => memory.p[token as usize] = 0.0, // certain of its token
            }
            let Some(instead) = residual::pick(&memory.p, choose(i)) else {
                break;
            };
            done.tokens.push(instead);
            done.log_probabilities
                .push(p.log_probability(logits[instead as usize]));
            return Ok(done);
        }
        // All were accepted, or rounding left nothing to draw from.
        let i = done.accepted;
        let draw = categorical::draw(&self.target[i], choose(i))?;
        done.tokens.push(draw.token);
        done.log_probabilities.push(draw.log_probability);
        Ok(done)
    }

    /// Refuses logits that the numbers may lead to; returns the maxima of the target's rows and of the draft's.
    fn check(&self, copy: &mut Vec<F>) -> Result<(Vec<F>, Vec<F>), SamplingError> {
        let (mut p_max, mut q_max) = (Vec::new(), Vec::new());
        for logits in &self.target {
            p_max.push(rows::as_slice(logits, copy, rows::finite_max)?);
        }
        for (position, logits) in self.logits.iter().flatten().enumerate() {
            let max = rows::as_slice(logits, copy, rows::finite_max)?;
            let token = self.tokens[position];
            if (logits[token as usize] - max).fast_exp() == F::zero() {
                return Err(SamplingError::DraftProbability {
                    row: 0,
                    position,
                    token,
                });
            }
            q_max.push(max);
        }
        Ok((p_max, q_max))
    }
}

fn softmax<F: Float>(logits: &ArrayView1<'_, F>, max: F, copy: &mut Vec<F>) -> Softmax<F> {
    rows::as_slice(logits, copy, |row| Softmax::new(row, max))
}
