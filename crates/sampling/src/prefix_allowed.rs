//! Only tokens that the caller allows, by what came before.

use core::fmt;

use llm_numerics::Float;
use ndarray::ArrayRef2;

use crate::{Candidates, Context, Processor, SamplingError};

/// What becomes of a row whose allowed tokens were all masked before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unsatisfiable {
    /// All of them get a logit of 0, so that what is allowed wins over what masked it: Hugging Face since version 5.
    #[default]
    Reset,
    /// The row stays masked wholly, which whoever draws from it will refuse.
    Masked,
}

/// Masks tokens that the caller does not allow at this place.
///
/// ```text
/// A = allowed(context)
/// x_i <- -inf  where i is not in A
/// x_i <- 0     for i in A, if all of these were -inf        (Unsatisfiable::Reset)
/// ```
///
/// `allowed` writes ids into the empty list that it gets. It may look at the row (whose source is row / beams), the prompt and what was made:
/// a trie of names, a grammar or a list of answers fits in there.
///
/// Beams of one sequence belong together in Hugging Face: a row is reset only if all beams of its sequence are masked wholly. That needs more
/// than one row: see [`apply_beams_inplace`].
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::prefix_allowed::PrefixAllowed;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// // After 0 comes 1 or 2, after all else 0.
/// let allowed = PrefixAllowed::new(|context: &Context<'_>, ids: &mut Vec<u32>| {
///     match context.tokens().last() {
///         Some(0) => ids.extend([1, 2]),
///         _ => ids.push(0),
///     }
/// });
/// let mut logits = array![[1.0_f32, 2.0, 3.0], [MASKED, 2.0, 3.0]];
/// let contexts = [Context::new(&[0], &[]), Context::new(&[1], &[])];
/// processor::apply_inplace(&mut logits, &contexts, &allowed)?;
/// assert_eq!(logits, array![[MASKED, 2.0, 3.0], [0.0, MASKED, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: De Cao et al. 2020, arXiv:2010.00904v3 §3.2; `PrefixConstrainedLogitsProcessor` of transformers 5.23.
#[derive(Clone, Copy)]
pub struct PrefixAllowed<A> {
    allowed: A,
    unsatisfiable: Unsatisfiable,
}

impl<A> fmt::Debug for PrefixAllowed<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixAllowed")
            .field("unsatisfiable", &self.unsatisfiable)
            .finish_non_exhaustive()
    }
}

impl<A: Fn(&Context<'_>, &mut Vec<u32>)> PrefixAllowed<A> {
    /// The processor, with [`Unsatisfiable::Reset`].
    #[must_use]
    pub const fn new(allowed: A) -> Self {
        Self {
            allowed,
            unsatisfiable: Unsatisfiable::Reset,
        }
    }

    /// Sets what becomes of a row without an allowed token that was not masked.
    #[must_use]
    pub const fn with_unsatisfiable(mut self, unsatisfiable: Unsatisfiable) -> Self {
        self.unsatisfiable = unsatisfiable;
        self
    }

    /// Runs `work` on the sorted ids that are allowed.
    fn with_ids<F: Float>(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
        work: impl FnOnce(&mut Candidates<F>, &[u32]),
    ) -> Result<(), SamplingError> {
        let mut ids = core::mem::take(&mut candidates.with_scratch().1.indices);
        ids.clear();
        (self.allowed)(context, &mut ids);
        ids.sort_unstable();
        let checked = candidates.check_tokens(&ids).and_then(|()| {
            if ids.is_empty() {
                return Err(SamplingError::NoAllowedTokens { row: 0 });
            }
            work(candidates, &ids);
            Ok(())
        });
        candidates.with_scratch().1.indices = ids;
        checked
    }
}

impl<F: Float, A: Fn(&Context<'_>, &mut Vec<u32>)> Processor<F> for PrefixAllowed<A> {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`]; [`SamplingError::NoAllowedTokens`], [`SamplingError::TokenId`] for what `allowed` wrote.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        candidates.check()?;
        self.with_ids(candidates, context, |candidates, ids| {
            keep_only(candidates, ids);
            if candidates.logits().is_empty() && self.unsatisfiable == Unsatisfiable::Reset {
                candidates.force(ids);
            }
        })
    }
}

/// Leaves out all but these tokens, which are in ascending order.
fn keep_only<F: Float>(candidates: &mut Candidates<F>, ids: &[u32]) {
    let mut ids = ids.iter().copied().peekable();
    for i in 0..candidates.logits().len() {
        let token = candidates.id(i);
        while ids.peek().is_some_and(|&id| id < token) {
            ids.next();
        }
        if ids.peek() != Some(&token) {
            candidates.logits_mut()[i] = F::neg_infinity();
        }
    }
    candidates.compact();
}

/// [`PrefixAllowed`] on the beams of sequences, as Hugging Face counts them.
///
/// ```text
/// rows b n_beams .. (b + 1) n_beams are the beams of sequence b
/// as PrefixAllowed, but with Reset the beams of a sequence are reset together, and only if all of them are masked wholly
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, any strides; `batch` is a multiple of `n_beams`
/// - `contexts`: `[batch]`
///
/// # Errors
///
/// - [`SamplingError::BeamRows`] if `batch` is no multiple of `n_beams`, or that is 0.
/// - [`SamplingError::Contexts`], [`SamplingError::Vocab`], and those of the processor. On an error, the logits are unchanged.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::Context;
/// use llm_sampling::prefix_allowed::{self, PrefixAllowed};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let allowed = PrefixAllowed::new(|_: &Context<'_>, ids: &mut Vec<u32>| ids.push(0));
/// let mut logits = array![[MASKED, 2.0_f32], [1.0, 2.0]]; // the second beam can go on
/// let contexts = [Context::new(&[], &[]); 2];
/// prefix_allowed::apply_beams_inplace(&mut logits, &contexts, 2, &allowed)?;
/// assert_eq!(logits, array![[MASKED, MASKED], [1.0, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: as for [`PrefixAllowed`].
pub fn apply_beams_inplace<F: Float, A: Fn(&Context<'_>, &mut Vec<u32>)>(
    logits: &mut ArrayRef2<F>,
    contexts: &[Context<'_>],
    n_beams: usize,
    processor: &PrefixAllowed<A>,
) -> Result<(), SamplingError> {
    let (batch, vocab) = logits.dim();
    if n_beams == 0 || !batch.is_multiple_of(n_beams) {
        return Err(SamplingError::BeamRows { batch, n_beams });
    }
    let masked = PrefixAllowed {
        allowed: &processor.allowed,
        unsatisfiable: Unsatisfiable::Masked,
    };
    let mut changed = logits.to_owned();
    crate::processor::apply_inplace(&mut changed, contexts, &masked)?;
    if processor.unsatisfiable == Unsatisfiable::Reset {
        let mut candidates = Candidates::new();
        for first in (0..batch).step_by(n_beams) {
            let beams = first..first + n_beams;
            let dead = |row: usize| changed.row(row).iter().all(|x| *x == F::neg_infinity());
            if !beams.clone().all(dead) {
                continue;
            }
            for row in beams {
                candidates.fill(&vec![F::neg_infinity(); vocab])?;
                let context = Context {
                    row,
                    ..contexts[row]
                };
                masked
                    .with_ids(&mut candidates, &context, Candidates::force)
                    .map_err(|e| e.in_row(row))?;
                let mut reset = vec![F::zero(); vocab];
                candidates.write_to(&mut reset);
                changed
                    .row_mut(row)
                    .assign(&ndarray::ArrayView1::from(&reset));
            }
        }
    }
    logits.assign(&changed);
    Ok(())
}
