//! What the rows of a batch were made from.

use crate::{Context, SamplingError};

/// The tokens that a model read, for processors that look at them.
///
/// Row `r` belongs to source `r / n_beams`: with beams, or several samples of one prompt, the rows of a source are neighbors.
///
/// # Example
///
/// ```
/// use llm_sampling::{Context, Sources};
///
/// let sources = Sources::new(vec![vec![1, 2], vec![3]], 2)?;
/// let context = Context::new(&[], &[]); // row 0
/// assert_eq!(sources.of(&context)?, [1, 2]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    tokens: Vec<Vec<u32>>,
    n_beams: usize,
}

impl Sources {
    /// One source for each `n_beams` rows.
    ///
    /// # Errors
    ///
    /// [`SamplingError::BeamRows`] if `n_beams` is 0.
    pub fn new(tokens: Vec<Vec<u32>>, n_beams: usize) -> Result<Self, SamplingError> {
        if n_beams == 0 {
            return Err(SamplingError::BeamRows {
                batch: tokens.len(),
                n_beams,
            });
        }
        Ok(Self { tokens, n_beams })
    }

    /// The same source for all rows.
    #[must_use]
    pub fn one(tokens: Vec<u32>) -> Self {
        Self {
            tokens: vec![tokens],
            n_beams: usize::MAX,
        }
    }

    /// The source of a row.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Source`] if there are too few.
    pub fn of(&self, context: &Context<'_>) -> Result<&[u32], SamplingError> {
        let source = self.tokens.get(context.row / self.n_beams);
        source.map(Vec::as_slice).ok_or(SamplingError::Source {
            row: context.row,
            n_beams: self.n_beams,
            len: self.tokens.len(),
        })
    }
}
