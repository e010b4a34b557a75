//! How long a draft is, and what processors see of it.

use llm_numerics::Float;
use ndarray::{ArrayRef2, ArrayRef3, s};

use super::check_draft;
use crate::{Candidates, Context, Processor, RowRandom, SamplingError, processor};

/// How many tokens to draft next, by how the last drafts went.
///
/// ```text
/// constant:   n
/// heuristic:  n <- n + 2 if all were accepted, else max(1, n - 1)
/// confidence: either of them, but a draft ends with the first token whose draft probability is below the threshold
/// ```
///
/// # Example
///
/// ```
/// use llm_sampling::search::speculative::DraftSchedule;
///
/// let mut schedule = DraftSchedule::heuristic(5)?.with_confidence(0.4)?;
/// schedule.update(5, 5);
/// assert_eq!(schedule.len(100), 7);
/// schedule.update(3, 7);
/// assert_eq!(schedule.len(100), 6);
/// assert_eq!(schedule.len(4), 3); // the target adds a token of its own
/// assert!(schedule.goes_on(0.4));
/// assert!(!schedule.goes_on(0.39));
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `AssistedCandidateGenerator` of transformers 5.23, where the defaults are a constant 20 and a threshold of 0.4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DraftSchedule {
    len: usize,
    adapts: bool,
    confidence: f64,
}

impl DraftSchedule {
    /// Always `len` tokens.
    ///
    /// # Errors
    ///
    /// [`SamplingError::DraftLength`] if that is 0.
    pub const fn constant(len: usize) -> Result<Self, SamplingError> {
        if len == 0 {
            return Err(SamplingError::DraftLength(len));
        }
        Ok(Self {
            len,
            adapts: false,
            confidence: 0.0,
        })
    }

    /// First `len` tokens, then two more after each success and one less after each failure.
    ///
    /// # Errors
    ///
    /// [`SamplingError::DraftLength`] if that is 0.
    pub const fn heuristic(len: usize) -> Result<Self, SamplingError> {
        if len == 0 {
            return Err(SamplingError::DraftLength(len));
        }
        Ok(Self {
            len,
            adapts: true,
            confidence: 0.0,
        })
    }

    /// Also ends a draft after a token whose draft probability is below the threshold; 0 never does.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Confidence`] if it is not in `[0, 1]`.
    pub fn with_confidence(mut self, threshold: f64) -> Result<Self, SamplingError> {
        if !(0.0..=1.0).contains(&threshold) {
            return Err(SamplingError::Confidence(threshold));
        }
        self.confidence = threshold;
        Ok(self)
    }

    /// Tokens to draft at most, if there may be `room` more tokens in all: the target adds one.
    #[must_use]
    pub fn len(&self, room: usize) -> usize {
        self.len.min(room.saturating_sub(1))
    }

    /// True if no token is to be drafted.
    #[must_use]
    pub fn is_empty(&self, room: usize) -> bool {
        self.len(room) == 0
    }

    /// Whether to draft on after a token of this draft probability.
    #[must_use]
    pub fn goes_on(&self, probability: f64) -> bool {
        probability >= self.confidence
    }

    /// Takes note of how many of the drafted tokens were accepted.
    pub const fn update(&mut self, accepted: usize, drafted: usize) {
        if !self.adapts {
            return;
        }
        self.len = if accepted >= drafted {
            self.len.saturating_add(2)
        } else if self.len > 1 {
            self.len - 1
        } else {
            1
        };
    }
}

/// Runs a processor on the target's logits, where each position has seen the draft before it.
///
/// ```text
/// logits_i <- processor(logits_i; prompt, generated + draft_tokens[..i], step + i)
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, draft + 1, vocab]`, any strides; row `i` is changed up to `draft_lens[i]`, inclusive
/// - `contexts`: `[batch]`, before the draft, with the random numbers of its first token
/// - `draft_tokens`: `[batch, draft]`
/// - `draft_lens`: `[batch]`
///
/// # Errors
///
/// [`SamplingError::Contexts`], [`SamplingError::Axis`], [`SamplingError::DraftLen`], [`SamplingError::DraftToken`],
/// [`SamplingError::Vocab`], and those of the processor, with the row. On an error, the logits are unchanged.
///
/// # Precision
///
/// That of the processor.
///
/// # Example
///
/// ```
/// use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
/// use llm_sampling::search::speculative;
/// use llm_sampling::Context;
/// use ndarray::array;
///
/// let mut logits = array![[[4.0_f32, 2.0], [4.0, 2.0]]];
/// let penalty = RepetitionPenalty::new(2.0, PenaltyWindow::All)?;
/// speculative::apply_inplace(&mut logits, &[Context::new(&[1], &[])], &array![[0]], &[1], &penalty)?;
/// assert_eq!(logits, array![[[4.0, 1.0], [2.0, 1.0]]]); // the second position has seen token 0
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
pub fn apply_inplace<F: Float, P: Processor<F> + ?Sized>(
    logits: &mut ArrayRef3<F>,
    contexts: &[Context<'_>],
    draft_tokens: &ArrayRef2<u32>,
    draft_lens: &[usize],
    processor: &P,
) -> Result<(), SamplingError> {
    let (batch, _, vocab) = logits.dim();
    processor::check_contexts(batch, contexts)?;
    check_draft(logits.dim(), draft_tokens, draft_lens)?;
    let mut candidates = Candidates::new();
    let (mut copy, mut generated) = (Vec::new(), Vec::new());
    let mut changed: Vec<F> = Vec::new();
    for (row, context) in contexts.iter().enumerate() {
        generated.clear();
        generated.extend_from_slice(context.generated);
        for i in 0..=draft_lens[row] {
            copy.clear();
            copy.extend(logits.slice(s![row, i, ..]).iter().copied());
            candidates.fill(&copy)?;
            let random = context.random;
            let step = random.step.wrapping_add(i as u64);
            let here = Context {
                row,
                prompt: context.prompt,
                generated: &generated,
                random: RowRandom::new(random.seed, random.stream, step),
            };
            processor
                .apply(&mut candidates, &here)
                .map_err(|e| e.in_row(row))?;
            let start = changed.len();
            changed.resize(start + vocab, F::zero());
            candidates.write_to(&mut changed[start..]);
            if i < draft_lens[row] {
                generated.push(draft_tokens[[row, i]]);
            }
        }
    }
    let mut changed = changed.chunks_exact(vocab.max(1));
    for (row, &n) in draft_lens.iter().enumerate() {
        for i in 0..=n {
            let new = changed.next().unwrap_or(&[]);
            for (x, y) in logits.slice_mut(s![row, i, ..]).iter_mut().zip(new) {
                *x = *y;
            }
        }
    }
    Ok(())
}
