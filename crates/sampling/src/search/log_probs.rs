//! From a row of logits to log-probabilities that processors have changed.

use llm_numerics::{Float, softmax};
use ndarray::{ArrayRef1, aview_mut1};

use crate::{Candidates, Context, Processor, SamplingError, rows};

/// Memory for one row after the other.
#[derive(Debug)]
pub(super) struct LogProbs<F> {
    row: Vec<F>,
    candidates: Candidates<F>,
}

impl<F: Float> LogProbs<F> {
    pub(super) fn new() -> Self {
        Self {
            row: Vec::new(),
            candidates: Candidates::new(),
        }
    }

    /// The log-softmax of the row of `context`, then the processor.
    pub(super) fn process<P: Processor<F> + ?Sized>(
        &mut self,
        logits: &ArrayRef1<F>,
        context: &Context<'_>,
        processor: &P,
    ) -> Result<&Candidates<F>, SamplingError> {
        self.try_process(logits, context, processor)
            .map_err(|e| e.in_row(context.row))?;
        Ok(&self.candidates)
    }

    fn try_process<P: Processor<F> + ?Sized>(
        &mut self,
        logits: &ArrayRef1<F>,
        context: &Context<'_>,
        processor: &P,
    ) -> Result<(), SamplingError> {
        self.row.clear();
        self.row.extend(logits.iter().copied());
        rows::finite_max(&self.row)?;
        softmax::log_softmax_inplace(&mut aview_mut1(&mut self.row));
        self.candidates.fill(&self.row)?;
        let processed = processor.apply(&mut self.candidates, context);
        match (processed, self.candidates.max()) {
            // A beam that cannot go on is no error, even if a later processor finds that there is nothing left.
            (
                Ok(()) | Err(SamplingError::MaskedRow { .. }),
                Err(SamplingError::MaskedRow { .. }),
            ) => Ok(()),
            (processed, left) => processed.and(left.map(|_| ())),
        }
    }
}

/// The candidates of a row with their log-probabilities, in the order of ids.
pub(super) fn tokens<F: Float>(candidates: &Candidates<F>) -> impl Iterator<Item = (u32, f64)> {
    let logits = candidates.logits().iter().enumerate();
    logits.map(|(i, x)| (candidates.id(i), x.as_f64()))
}

/// The log-probability of a token; `-inf` if it was masked out.
pub(super) fn of_token<F: Float>(candidates: &Candidates<F>, token: u32) -> f64 {
    let index = candidates.index(token);
    index.map_or(f64::NEG_INFINITY, |i| candidates.logits()[i].as_f64())
}
