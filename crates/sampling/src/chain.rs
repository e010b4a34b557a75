//! Processors one after the other, and a draw.

mod config;
mod setting;

use core::fmt;

use llm_numerics::Float;
use ndarray::ArrayRef2;

pub use config::ChainConfig;
pub use setting::{Setting, order};

use crate::processor::{self, Shortcut};
use crate::top_k::Ties;
use crate::{Candidates, Context, Draw, Processor, SamplingError, categorical, rows};

/// Processors in the order in which they run, with the memory that they need. [`ChainConfig`] makes one in the order of a library.
///
/// A row's result depends on that row and its context only, so it is the same for any packing of rows into batches. After the first step
/// [`run`](Self::run) and [`sample_into`](Self::sample_into) allocate nothing, as long as rows do not get longer and lie in one piece.
///
/// Where a top-k comes first (or right after a temperature), the row is read once and only likely tokens go on; the result is the same.
///
/// # Example
///
/// ```
/// use llm_sampling::chain::Chain;
/// use llm_sampling::min_p::MinP;
/// use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
/// use llm_sampling::{Candidates, Context, RowRandom, SamplingError};
/// use ndarray::array;
///
/// let no_odd_tokens = |candidates: &mut Candidates<f32>, _: &Context<'_>| {
///     for token in (1..candidates.vocab() as u32).step_by(2) {
///         if let Some(x) = candidates.get_mut(token) {
///             *x = f32::NEG_INFINITY;
///         }
///     }
///     Ok(())
/// };
/// let mut chain = Chain::new()
///     .with(RepetitionPenalty::new(1.3, PenaltyWindow::All)?)
///     .with(MinP::new(0.05, 1)?)
///     .with(no_odd_tokens);
/// let logits = array![[2.0_f32, 9.0, 1.5, -8.0]];
/// let context = Context::new(&[0, 0], &[]).with_random(RowRandom::new(7, 0, 0));
/// let error = chain.sample(&logits, &[context]).unwrap_err();
/// assert_eq!(error, SamplingError::MaskedRow { row: 0 }); // min-p had kept token 1 only
/// # Ok::<(), SamplingError>(())
/// ```
pub struct Chain<F> {
    processors: Vec<Box<dyn Processor<F> + Send + Sync>>,
    candidates: Candidates<F>,
}

impl<F> fmt::Debug for Chain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("processors", &self.processors.len())
            .finish_non_exhaustive()
    }
}

impl<F: Float> Default for Chain<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Float> Chain<F> {
    /// Without processors: it draws from the softmax of the logits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            processors: Vec::new(),
            candidates: Candidates::new(),
        }
    }

    /// Adds a processor at the end.
    #[must_use]
    pub fn with(mut self, processor: impl Processor<F> + Send + Sync + 'static) -> Self {
        self.push(Box::new(processor));
        self
    }

    /// Adds a processor at the end, of a kind that is known only at run time.
    pub fn push(&mut self, processor: Box<dyn Processor<F> + Send + Sync>) {
        self.processors.push(processor);
    }

    /// Number of processors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processors.len()
    }

    /// True without processors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processors.is_empty()
    }

    /// Runs the processors on a row, and gives what they leave.
    ///
    /// # Shapes
    ///
    /// - `row`: `[vocab]`
    ///
    /// # Errors
    ///
    /// [`SamplingError::Vocab`], and those of the processors.
    pub fn run(
        &mut self,
        row: &[F],
        context: &Context<'_>,
    ) -> Result<&mut Candidates<F>, SamplingError> {
        fill(&self.processors, row, context, &mut self.candidates)?;
        Ok(&mut self.candidates)
    }

    /// [`run`](Self::run) with memory of the caller.
    pub(crate) fn fill(
        &self,
        row: &[F],
        context: &Context<'_>,
        candidates: &mut Candidates<F>,
    ) -> Result<(), SamplingError> {
        fill(&self.processors, row, context, candidates)
    }

    /// Runs the processors on each row of logits.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[batch, vocab]`, any strides
    /// - `contexts`: `[batch]`
    ///
    /// # Errors
    ///
    /// [`SamplingError::Contexts`], [`SamplingError::Vocab`], and those of the processors, with the row. On an error, the logits are
    /// unchanged.
    pub fn apply_inplace(
        &self,
        logits: &mut ArrayRef2<F>,
        contexts: &[Context<'_>],
    ) -> Result<(), SamplingError> {
        processor::check_contexts(logits.nrows(), contexts)?;
        processor::replace_rows(logits, |row, x, candidates| {
            let context = Context {
                row,
                ..contexts[row]
            };
            fill(&self.processors, x, &context, candidates)
        })
    }

    /// Draws a token for each row of logits, from what the processors leave, with number 0 of the context's random numbers.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[batch, vocab]`, any strides
    /// - `contexts`: `[batch]`
    /// - returns: `[batch]`
    ///
    /// # Errors
    ///
    /// [`SamplingError::Contexts`], those of the processors, and those of [`categorical::draw`], with the row.
    ///
    /// # Precision
    ///
    /// That of [`categorical::draw`].
    pub fn sample(
        &mut self,
        logits: &ArrayRef2<F>,
        contexts: &[Context<'_>],
    ) -> Result<Vec<Draw>, SamplingError> {
        let mut draws = Vec::with_capacity(logits.nrows());
        self.sample_into(logits, contexts, &mut draws)?;
        Ok(draws)
    }

    /// [`sample`](Self::sample) into a list that is cleared first, so that nothing is allocated. It is empty after an error.
    ///
    /// # Errors
    ///
    /// Those of [`sample`](Self::sample).
    pub fn sample_into(
        &mut self,
        logits: &ArrayRef2<F>,
        contexts: &[Context<'_>],
        draws: &mut Vec<Draw>,
    ) -> Result<(), SamplingError> {
        draws.clear();
        processor::check_contexts(logits.nrows(), contexts)?;
        let Self {
            processors,
            candidates,
        } = self;
        let drawn = rows::try_for_each(logits, |row, x| {
            let context = Context {
                row,
                ..contexts[row]
            };
            fill(processors, x, &context, candidates)?;
            let u = context.random.uniform(0);
            draws.push(categorical::draw_candidates(candidates, u)?);
            Ok(())
        });
        if drawn.is_err() {
            draws.clear();
        }
        drawn
    }
}

/// A chain is a processor too, so that it can go into a search or into another chain.
impl<F: Float> Processor<F> for Chain<F> {
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        run_on(&self.processors, candidates, context)
    }
}

/// Runs processors on a row.
fn fill<F: Float>(
    mut processors: &[Box<dyn Processor<F> + Send + Sync>],
    row: &[F],
    context: &Context<'_>,
    candidates: &mut Candidates<F>,
) -> Result<(), SamplingError> {
    if let Some((temperature, k, ties, n)) = largest(processors) {
        candidates.fill_largest(row, temperature, k, ties)?;
        processors = &processors[n..];
    } else {
        candidates.fill(row)?;
    }
    run_on(processors, candidates, context)
}

/// Runs processors on what is left of a row.
fn run_on<F: Float>(
    mut processors: &[Box<dyn Processor<F> + Send + Sync>],
    candidates: &mut Candidates<F>,
    context: &Context<'_>,
) -> Result<(), SamplingError> {
    while let [first, rest @ ..] = processors {
        match largest(processors) {
            Some((temperature, k, ties, n)) if candidates.is_dense() => {
                candidates.keep_largest(temperature, k, ties)?;
                processors = &processors[n..];
            }
            _ => {
                first.apply(candidates, context)?;
                processors = rest;
            }
        }
    }
    Ok(())
}

/// The temperature, `k` and ties of a top-k that comes first or after a temperature, and how many processors that is.
fn largest<F: Float>(
    processors: &[Box<dyn Processor<F> + Send + Sync>],
) -> Option<(f64, usize, Ties, usize)> {
    let mut shortcuts = processors.iter().map(|processor| processor.shortcut());
    let (temperature, k, ties, n) = match (shortcuts.next()?, shortcuts.next()) {
        (Shortcut::KeepLargest { k, ties }, _) => (1.0, k, ties, 1),
        (Shortcut::Divide(temperature), Some(Shortcut::KeepLargest { k, ties })) => {
            (temperature, k, ties, 2)
        }
        _ => return None,
    };
    // Processors of others may say anything.
    let makes_sense = k > 0 && temperature > 0.0 && temperature.is_finite();
    makes_sense.then_some((temperature, k, ties, n))
}
