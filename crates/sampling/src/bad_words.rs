//! Words that may not come.

use llm_numerics::Float;

use crate::sequence_bias::SequenceBias;
use crate::{Candidates, Context, Processor, SamplingError};

/// Masks tokens that would complete a forbidden sequence.
///
/// ```text
/// x_i <- -inf  where a sequence s ends with i, and the tokens so far end with the rest of s
/// ```
///
/// A [`SequenceBias`] of `-inf`. The end of a sequence cannot be forbidden: a word that is one of `stop_ids`, and nothing else, is passed
/// over.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::bad_words::BadWords;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let mut logits = array![[1.0_f32, 2.0, 3.0]];
/// let bad_words = BadWords::new([vec![0], vec![1, 2]], &[])?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[0, 1], &[])], &bad_words)?;
/// assert_eq!(logits, array![[MASKED, 2.0, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `NoBadWordsLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq)]
pub struct BadWords(SequenceBias);

impl BadWords {
    /// The processor; without words it changes nothing.
    ///
    /// # Errors
    ///
    /// [`SamplingError::EmptySequence`] if a word has no tokens.
    pub fn new(
        words: impl IntoIterator<Item = Vec<u32>>,
        stop_ids: &[u32],
    ) -> Result<Self, SamplingError> {
        let may_be_forbidden =
            |word: &Vec<u32>| !matches!(word[..], [id] if stop_ids.contains(&id));
        let words = words.into_iter().filter(may_be_forbidden);
        let bias = SequenceBias::new(words.map(|word| (word, f64::NEG_INFINITY)))?;
        Ok(Self(bias))
    }
}

impl<F: Float> Processor<F> for BadWords {
    /// # Errors
    ///
    /// [`SamplingError::TokenId`] if a word has an id that the vocabulary does not have.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        self.0.apply(candidates, context)
    }
}
