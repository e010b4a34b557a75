//! Token sequences of different lengths, laid end to end.

use ndarray::Array1;

use crate::DecoderError;

/// Several token sequences laid end to end, without padding.
///
/// Every position-wise part of a model works on the tokens as one long axis;
/// attention and positions start anew with each sequence. So a batch of unequal
/// lengths costs no more than its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<u32>,
    starts: Vec<usize>, // n_sequences + 1 offsets, from 0 to ids.len()
}

impl TokenBatch {
    /// Lays the sequences end to end.
    ///
    /// # Errors
    ///
    /// [`DecoderError::EmptyInput`] if there is no sequence, or one is empty.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_decoder::TokenBatch;
    ///
    /// let batch = TokenBatch::new(&[&[5, 6, 7], &[8]])?;
    /// assert_eq!(batch.ids(), [5, 6, 7, 8]);
    /// assert_eq!(batch.positions().to_vec(), [0, 1, 2, 0]);
    /// # Ok::<(), llm_decoder::DecoderError>(())
    /// ```
    pub fn new(sequences: &[&[u32]]) -> Result<Self, DecoderError> {
        let mut batch = Self {
            ids: Vec::with_capacity(sequences.iter().map(|ids| ids.len()).sum()),
            starts: vec![0],
        };
        for ids in sequences {
            if ids.is_empty() {
                return Err(DecoderError::EmptyInput);
            }
            batch.ids.extend_from_slice(ids);
            batch.starts.push(batch.ids.len());
        }
        if batch.ids.is_empty() {
            return Err(DecoderError::EmptyInput);
        }
        Ok(batch)
    }

    /// All token ids, sequence after sequence.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of tokens in all sequences.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.ids.len()
    }

    /// Where each sequence lies among the tokens.
    pub fn ranges(&self) -> impl Iterator<Item = core::ops::Range<usize>> + '_ {
        self.starts.windows(2).map(|ends| ends[0]..ends[1])
    }

    /// The position of each token in its own sequence, from 0.
    #[must_use]
    pub fn positions(&self) -> Array1<usize> {
        self.ranges().flat_map(|range| 0..range.len()).collect()
    }

    /// Refuses ids outside the vocabulary and sequences beyond the context.
    pub(crate) fn check(&self, vocab: usize, context: usize) -> Result<(), DecoderError> {
        check_ids(&self.ids, vocab)?;
        match self.ranges().map(|range| range.len()).max() {
            Some(new) if new > context => Err(DecoderError::ContextFull {
                capacity: context,
                held: 0,
                new,
            }),
            _ => Ok(()),
        }
    }
}

/// Refuses ids outside the vocabulary.
pub(crate) fn check_ids(ids: &[u32], vocab: usize) -> Result<(), DecoderError> {
    match ids.iter().position(|&id| id as usize >= vocab) {
        Some(position) => Err(DecoderError::TokenId {
            position,
            id: ids[position],
            vocab,
        }),
        None => Ok(()),
    }
}
