//! Bias on sequences of tokens.

use llm_numerics::Float;

use crate::candidates::limited;
use crate::{Candidates, Context, Processor, SamplingError};

/// Adds to the logit of a token that would complete a given sequence.
///
/// ```text
/// x_i <- x_i + sum { bias_s : sequence s ends with i, and the tokens so far end with the rest of s }
/// ```
///
/// A sequence of one token is biased always; one longer than the tokens so far and the next, never. A sequence that is given twice has the
/// later bias. `-inf` forbids.
///
/// # Precision
///
/// Biases of a token are summed with its logit in `f64`, and rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::sequence_bias::SequenceBias;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// let mut logits = array![[1.0_f32, 2.0, 3.0]];
/// let bias = SequenceBias::new([(vec![0], 0.5), (vec![1, 2], -1.0), (vec![0, 2], 9.0)])?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[0, 1], &[])], &bias)?;
/// assert_eq!(logits, array![[1.5, 2.0, 2.0]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `SequenceBiasLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceBias {
    /// Sorted by the last token, so that those of a token are neighbors.
    sequences: Vec<(Vec<u32>, f64)>,
    largest_id: Option<u32>,
}

impl SequenceBias {
    /// The processor; without sequences it changes nothing.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::EmptySequence`] if one has no tokens.
    /// - [`SamplingError::SequenceBias`] if a bias is NaN or infinity.
    pub fn new(
        sequences: impl IntoIterator<Item = (Vec<u32>, f64)>,
    ) -> Result<Self, SamplingError> {
        let mut kept: Vec<(Vec<u32>, f64)> = Vec::new();
        for (index, (sequence, bias)) in sequences.into_iter().enumerate() {
            if sequence.is_empty() {
                return Err(SamplingError::EmptySequence { index });
            }
            if bias.is_nan() || bias == f64::INFINITY {
                return Err(SamplingError::SequenceBias(bias));
            }
            kept.push((sequence, bias));
        }
        // Stable, so of equal sequences the latest is the last.
        kept.sort_by(|(a, _), (b, _)| a.iter().rev().cmp(b.iter().rev()));
        kept.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
        let largest_id = kept.iter().flat_map(|(s, _)| s).copied().max();
        Ok(Self {
            sequences: kept,
            largest_id,
        })
    }
}

impl<F: Float> Processor<F> for SequenceBias {
    /// # Errors
    ///
    /// [`SamplingError::TokenId`] if a sequence has an id that the vocabulary does not have.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        candidates.check_tokens(self.largest_id.as_slice())?;
        let last = |(sequence, _): &(Vec<u32>, f64)| sequence[sequence.len() - 1];
        for group in self.sequences.chunk_by(|a, b| last(a) == last(b)) {
            let Some(x) = candidates.get_mut(last(&group[0])) else {
                continue;
            };
            let (mut sum, mut banned) = (x.as_f64(), false);
            for (sequence, bias) in group {
                let before = &sequence[..sequence.len() - 1];
                if context.ends_with(before) {
                    sum += bias;
                    banned |= *bias == f64::NEG_INFINITY; // even a logit of +inf
                }
            }
            *x = if banned {
                F::neg_infinity()
            } else {
                limited(sum, x.is_finite())
            };
        }
        Ok(())
    }
}
