//! Sequences of tokens that may not come twice.

use llm_numerics::Float;

use crate::{Candidates, Context, Processor, SamplingError, Sources};

/// Masks tokens that would repeat a sequence of `ngram_size` tokens.
///
/// ```text
/// t = prompt and generated tokens, n = ngram_size
/// x_i <- -inf  where some j has  t_j .. t_(j+n-2) = the last n - 1 tokens  and  t_(j+n-1) = i
/// ```
///
/// With fewer than `ngram_size` tokens so far nothing happens; `ngram_size = 1` masks every token that occurred. Ids that the vocabulary does
/// not have are passed over.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::no_repeat_ngram::NoRepeatNgram;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let mut logits = array![[1.0_f32, 2.0, 3.0]];
/// let context = Context::new(&[0, 2, 1], &[0]); // 2 came after 0
/// processor::apply_inplace(&mut logits, &[context], &NoRepeatNgram::new(2)?)?;
/// assert_eq!(logits, array![[1.0, 2.0, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Paulus, Xiong, Socher 2017, arXiv:1705.04304v3 §2.5; `NoRepeatNGramLogitsProcessor` of transformers 5.23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRepeatNgram {
    ngram_size: usize,
}

impl NoRepeatNgram {
    /// The processor.
    ///
    /// # Errors
    ///
    /// [`SamplingError::NgramSize`] if that is 0.
    pub fn new(ngram_size: usize) -> Result<Self, SamplingError> {
        if ngram_size == 0 {
            return Err(SamplingError::NgramSize(ngram_size));
        }
        Ok(Self { ngram_size })
    }
}

impl<F: Float> Processor<F> for NoRepeatNgram {
    /// # Errors
    ///
    /// None.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        let len = context.len();
        let prefix = self.ngram_size - 1;
        if len < self.ngram_size {
            return Ok(());
        }
        for start in 0..len - prefix {
            let same = (0..prefix).all(|i| context.get(start + i) == context.get(len - prefix + i));
            if let Some(token) = context.get(start + prefix).filter(|_| same) {
                candidates.mask(&[token]);
            }
        }
        Ok(())
    }
}

/// Masks tokens that would repeat a sequence of `ngram_size` tokens of a source.
///
/// ```text
/// s = source, t = prompt and generated tokens, n = ngram_size
/// x_i <- -inf  where some j has  s_j .. s_(j+n-2) = the last n - 1 of t  and  s_(j+n-1) = i
/// ```
///
/// It starts with `ngram_size - 1` tokens so far, one earlier than [`NoRepeatNgram`], as the sequence to be repeated is not among them.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::no_repeat_ngram::EncoderNoRepeatNgram;
/// use llm_sampling::{Context, Sources, processor};
/// use ndarray::array;
///
/// const MASKED: f32 = f32::NEG_INFINITY;
/// let mut logits = array![[1.0_f32, 2.0, 3.0]];
/// let no_repeat = EncoderNoRepeatNgram::new(2, Sources::one(vec![0, 2, 1]))?;
/// processor::apply_inplace(&mut logits, &[Context::new(&[0], &[])], &no_repeat)?;
/// assert_eq!(logits, array![[1.0, 2.0, MASKED]]);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `EncoderNoRepeatNGramLogitsProcessor` of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderNoRepeatNgram {
    ngram_size: usize,
    sources: Sources,
}

impl EncoderNoRepeatNgram {
    /// The processor.
    ///
    /// # Errors
    ///
    /// [`SamplingError::NgramSize`] if that is 0.
    pub fn new(ngram_size: usize, sources: Sources) -> Result<Self, SamplingError> {
        if ngram_size == 0 {
            return Err(SamplingError::NgramSize(ngram_size));
        }
        Ok(Self {
            ngram_size,
            sources,
        })
    }
}

impl<F: Float> Processor<F> for EncoderNoRepeatNgram {
    /// # Errors
    ///
    /// [`SamplingError::Source`].
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        let source = self.sources.of(context)?;
        let prefix = self.ngram_size - 1;
        let Some(first) = context.len().checked_sub(prefix) else {
            return Ok(());
        };
        for ngram in source.windows(self.ngram_size) {
            let same = (0..prefix).all(|i| context.get(first + i) == Some(ngram[i]));
            if same {
                candidates.mask(&ngram[prefix..]);
            }
        }
        Ok(())
    }
}
