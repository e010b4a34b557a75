//! What changes logits before a token is chosen.

use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;
use ndarray::ArrayRef2;

use crate::top_k::Ties;
use crate::{Candidates, SamplingError, rows};

/// What a processor may know about a row besides its logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context<'a> {
    /// Which row of the batch this is.
    pub row: usize,
    /// The tokens that came in.
    pub prompt: &'a [u32],
    /// The tokens that were made.
    pub generated: &'a [u32],
    /// The random numbers of this row and step.
    pub random: RowRandom,
}

impl<'a> Context<'a> {
    /// Row 0, and the random numbers of seed 0.
    #[must_use]
    pub const fn new(prompt: &'a [u32], generated: &'a [u32]) -> Self {
        Self {
            row: 0,
            prompt,
            generated,
            random: RowRandom::new(0, 0, 0),
        }
    }

    /// Sets the [`random`](Self::random) numbers.
    #[must_use]
    pub const fn with_random(mut self, random: RowRandom) -> Self {
        self.random = random;
        self
    }

    /// Tokens so far: prompt and what was made.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.prompt.len() + self.generated.len()
    }

    /// True if there are no tokens so far.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens so far, one after the other.
    #[must_use]
    pub fn tokens(&self) -> impl DoubleEndedIterator<Item = u32> + Clone + use<'a> {
        self.prompt.iter().chain(self.generated).copied()
    }

    /// True if these are the last tokens so far. Nothing is always last.
    #[must_use]
    pub fn ends_with(&self, tokens: &[u32]) -> bool {
        self.len()
            .checked_sub(tokens.len())
            .is_some_and(|start| self.tokens().skip(start).eq(tokens.iter().copied()))
    }

    /// The token at a position, counted from the first of the prompt.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<u32> {
        match position.checked_sub(self.prompt.len()) {
            None => self.prompt.get(position).copied(),
            Some(i) => self.generated.get(i).copied(),
        }
    }
}

/// Random numbers by counter: of a seed, a stream for each sequence, and a step.
///
/// They depend on nothing else, so a sequence gets the same ones in any batch, on any number of threads and on any device.
///
/// # Example
///
/// ```
/// use llm_sampling::RowRandom;
///
/// let random = RowRandom::new(42, 0, 7);
/// assert_eq!(random.uniform(0), RowRandom::new(42, 0, 7).uniform(0));
/// assert_ne!(random.uniform(0), random.uniform(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RowRandom {
    /// Key of the Philox generator.
    pub seed: u64,
    /// One for each sequence.
    pub stream: u64,
    /// Which token of the sequence is chosen, from 0; below `2^47`.
    pub step: u64,
}

impl RowRandom {
    /// The numbers of this step.
    #[must_use]
    pub const fn new(seed: u64, stream: u64, step: u64) -> Self {
        Self { seed, stream, step }
    }

    /// The `draw`-th number of this step, in `[0, 1)`. Number 0 chooses the token; processors take later ones.
    #[must_use]
    pub fn uniform(&self, draw: u16) -> f64 {
        let index = self.step | u64::from(draw) << 47; // the generator takes two words for an index
        Philox4x32::new(self.seed).uniform_f64(self.stream, index)
    }
}

/// A change of logits that depends on the row, and on what its sequence has seen.
///
/// Closures are processors too. A processor may set logits to `-inf`, which masks tokens out. It keeps no state: what a decision depends on
/// is in its arguments.
///
/// # Example
///
/// ```
/// use llm_sampling::{Candidates, Context, Processor, SamplingError, processor};
/// use ndarray::array;
///
/// /// Never chooses one of these.
/// struct Forbidden(Vec<u32>);
///
/// impl Processor<f32> for Forbidden {
///     fn apply(&self, candidates: &mut Candidates<f32>, _: &Context<'_>) -> Result<(), SamplingError> {
///         for &token in &self.0 {
///             if let Some(x) = candidates.get_mut(token) {
///                 *x = f32::NEG_INFINITY;
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let mut logits = array![[3.0_f32, 2.0, 1.0]];
/// let contexts = [Context::new(&[], &[])];
/// processor::apply_inplace(&mut logits, &contexts, &Forbidden(vec![0]))?;
/// assert_eq!(logits, array![[f32::NEG_INFINITY, 2.0, 1.0]]);
/// # Ok::<(), SamplingError>(())
/// ```
pub trait Processor<F: Float> {
    /// Changes the logits of one row.
    ///
    /// # Errors
    ///
    /// What this processor cannot work on. Errors about logits name row 0; the caller puts the right row there.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError>;

    /// What [`apply`](Self::apply) does, if it is so simple that a chain can do it with less work.
    fn shortcut(&self) -> Shortcut {
        Shortcut::None
    }
}

/// A processor in a word.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Shortcut {
    /// There is none.
    None,
    /// Divides all logits by a number above zero, as a temperature does.
    Divide(f64),
    /// Keeps the `k` largest logits, as a top-k does.
    KeepLargest {
        /// At least 1.
        k: usize,
        /// What becomes of equals.
        ties: Ties,
    },
}

impl<F, T> Processor<F> for T
where
    F: Float,
    T: Fn(&mut Candidates<F>, &Context<'_>) -> Result<(), SamplingError>,
{
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        self(candidates, context)
    }
}

/// Runs a processor on each row of logits.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, any strides
/// - `contexts`: `[batch]`
///
/// # Errors
///
/// [`SamplingError::Contexts`], [`SamplingError::Vocab`], and those of the processor, with the row. On an error, the logits are unchanged.
///
/// # Example
///
/// See [`Processor`].
pub fn apply_inplace<F: Float, P: Processor<F> + ?Sized>(
    logits: &mut ArrayRef2<F>,
    contexts: &[Context<'_>],
    processor: &P,
) -> Result<(), SamplingError> {
    check_contexts(logits.nrows(), contexts)?;
    replace_rows(logits, |row, logits, candidates| {
        candidates.fill(logits)?;
        let context = Context {
            row,
            ..contexts[row]
        };
        processor.apply(candidates, &context)
    })
}

/// One context for each row.
pub(crate) fn check_contexts(batch: usize, contexts: &[Context<'_>]) -> Result<(), SamplingError> {
    if contexts.len() == batch {
        return Ok(());
    }
    Err(SamplingError::Contexts {
        expected: batch,
        got: contexts.len(),
    })
}

/// Writes what `work` leaves of each row in its place, only if no row is refused; errors get the number of their row.
pub(crate) fn replace_rows<F: Float>(
    logits: &mut ArrayRef2<F>,
    mut work: impl FnMut(usize, &[F], &mut Candidates<F>) -> Result<(), SamplingError>,
) -> Result<(), SamplingError> {
    let vocab = logits.ncols();
    let mut changed = vec![F::zero(); logits.len()];
    let mut candidates = Candidates::new();
    rows::try_for_each(logits, |row, x| {
        work(row, x, &mut candidates)?;
        candidates.write_to(&mut changed[row * vocab..(row + 1) * vocab]);
        Ok(())
    })?;
    for (x, y) in logits.iter_mut().zip(&changed) {
        *x = *y;
    }
    Ok(())
}
