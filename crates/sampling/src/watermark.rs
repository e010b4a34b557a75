//! A watermark: tokens of a secret color come more often, which a test finds.

use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;

use crate::candidates::limited;
use crate::{Candidates, Context, Processor, SamplingError};

/// What the colors of the next token depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Seeding {
    /// The tokens before it, so that all candidates share one seed: the first paper, and its "Min-LeftHash".
    LeftHash,
    /// The tokens before it and the candidate itself, whose seed is its own: "Min-SelfHash". Harder to find out from outside.
    SelfHash,
}

/// Raises the logits of green tokens, which are chosen by a keyed hash of the tokens before.
///
/// ```text
/// w = the last `context` tokens (with SelfHash also the candidate i);   h = Philox4x32-10 with the key
/// seed_i  = min over t in w of  64 bits of h(t, 0, 0, 0)      LeftHash
///                               64 bits of h(t, i, 1, 0)      SelfHash
/// green_i = [32 bits of h(seed_i, i, 2) < green_ratio 2^32]
/// x_i <- x_i + bias  where green_i
/// ```
///
/// Whoever has the key can count green tokens: see [`detect`](Self::detect). With fewer than `context` tokens so far nothing happens.
///
/// The papers split the vocabulary into lists of fixed size by a random permutation. Here each token has a coin of its own, so the list is
/// `green_ratio` of the vocabulary on average; then a color costs one hash, and the test is exact for text without a watermark. The hash is
/// ours: Hugging Face takes the permutations of PyTorch's generator, which only PyTorch can repeat, and a text that it marked is not found
/// here, nor the other way round. Its self-hash looks at the 40 likeliest tokens, this one at all.
///
/// # Precision
///
/// The sum is in `f64`, rounded once. Colors are exact, on any machine.
///
/// # Example
///
/// ```
/// use llm_sampling::watermark::{Seeding, Watermark};
/// use llm_sampling::{Candidates, Context, Processor};
///
/// let watermark = Watermark::new(0.5, 20.0, 15_485_863, Seeding::LeftHash, 1)?;
/// // A model without a preference: with so large a bias each token is a green one.
/// let mut tokens = vec![0_u32];
/// let mut candidates = Candidates::new();
/// while tokens.len() < 50 {
///     candidates.fill(&[0.0_f32; 100])?;
///     watermark.apply(&mut candidates, &Context::new(&tokens, &[]))?;
///     let green = candidates.logits().iter().rposition(|x| *x > 0.0);
///     tokens.push(green.map_or(0, |i| i as u32));
/// }
/// let found = watermark.detect(&tokens)?;
/// assert_eq!(found.green, found.scored);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Kirchenbauer et al. 2023, arXiv:2301.10226v4 algorithm 2; Kirchenbauer et al. 2023, arXiv:2306.04634v4 (the seeds). Compare
/// `WatermarkLogitsProcessor` of transformers 5.23.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watermark {
    green_ratio: f64,
    bias: f64,
    key: u64,
    seeding: Seeding,
    context: usize,
}

/// What [`Watermark::detect`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Different sequences of `context + 1` tokens.
    pub scored: usize,
    /// Those of them whose last token is green.
    pub green: usize,
    /// By how many standard deviations `green` is above what text without a watermark has on average. 4 comes by chance once in 30,000 texts.
    pub z_score: f64,
}

impl Watermark {
    /// The processor. Usual are a `green_ratio` of 0.25, a `bias` of 2 and a `context` of 1 (4 for [`Seeding::SelfHash`]); the `key` is secret.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::GreenRatio`] if that is not in `(0, 1)`.
    /// - [`SamplingError::WatermarkBias`] if that is not finite.
    /// - [`SamplingError::WatermarkContext`] if that is 0.
    pub fn new(
        green_ratio: f64,
        bias: f64,
        key: u64,
        seeding: Seeding,
        context: usize,
    ) -> Result<Self, SamplingError> {
        if !(green_ratio > 0.0 && green_ratio < 1.0) {
            return Err(SamplingError::GreenRatio(green_ratio));
        }
        if !bias.is_finite() {
            return Err(SamplingError::WatermarkBias(bias));
        }
        if context == 0 {
            return Err(SamplingError::WatermarkContext(context));
        }
        Ok(Self {
            green_ratio,
            bias,
            key,
            seeding,
            context,
        })
    }

    /// True if `token` is green after these tokens; false after fewer than `context` ones.
    #[must_use]
    pub fn is_green(&self, before: &[u32], token: u32) -> bool {
        let context = Context::new(before, &[]);
        self.seed(&context)
            .is_some_and(|seed| self.colors(&context, seed, token))
    }

    /// Counts green tokens, each sequence of `context + 1` tokens once, as repeated text repeats its colors.
    ///
    /// ```text
    /// z = (green - green_ratio scored) / sqrt(scored green_ratio (1 - green_ratio))
    /// ```
    ///
    /// # Errors
    ///
    /// [`SamplingError::WatermarkTokens`] if there are no more than `context` tokens.
    pub fn detect(&self, tokens: &[u32]) -> Result<Detection, SamplingError> {
        if tokens.len() <= self.context {
            return Err(SamplingError::WatermarkTokens {
                needed: self.context.saturating_add(1),
                got: tokens.len(),
            });
        }
        let mut ngrams: Vec<&[u32]> = tokens.windows(self.context + 1).collect();
        ngrams.sort_unstable();
        ngrams.dedup();
        let is_green = |ngram: &&&[u32]| self.is_green(&ngram[..self.context], ngram[self.context]);
        let green = ngrams.iter().filter(is_green).count();
        let (n, ratio) = (ngrams.len() as f64, self.green_ratio);
        Ok(Detection {
            scored: ngrams.len(),
            green,
            z_score: (green as f64 - ratio * n) / (n * ratio * (1.0 - ratio)).sqrt(),
        })
    }

    /// The seed that all candidates share; for [`Seeding::SelfHash`] 0. `None` if there are too few tokens.
    fn seed(&self, context: &Context<'_>) -> Option<u64> {
        context.len().checked_sub(self.context)?;
        match self.seeding {
            Seeding::LeftHash => self
                .window(context)
                .map(|token| self.hash([token, 0, 0, 0]))
                .min(),
            Seeding::SelfHash => Some(0),
        }
    }

    fn colors(&self, context: &Context<'_>, seed: u64, token: u32) -> bool {
        let seed = match self.seeding {
            Seeding::LeftHash => seed,
            Seeding::SelfHash => self
                .window(context)
                .map(|before| self.hash([before, token, 1, 0]))
                .fold(self.hash([token, token, 1, 0]), u64::min),
        };
        let coin = self.hash([seed as u32, (seed >> 32) as u32, token, 2]) as u32;
        f64::from(coin) < self.green_ratio * 4_294_967_296.0
    }

    /// The last `context` tokens.
    fn window<'a>(&self, context: &Context<'a>) -> impl Iterator<Item = u32> + use<'a> {
        let skip = context.len().saturating_sub(self.context);
        context.tokens().skip(skip)
    }

    fn hash(&self, counter: [u32; 4]) -> u64 {
        let [low, high, ..] = Philox4x32::new(self.key).block(counter);
        u64::from(high) << 32 | u64::from(low)
    }
}

impl<F: Float> Processor<F> for Watermark {
    /// # Errors
    ///
    /// None.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        let Some(seed) = self.seed(context) else {
            return Ok(());
        };
        for i in 0..candidates.logits().len() {
            if candidates.logits()[i] == F::neg_infinity() {
                continue;
            }
            let token = candidates.id(i);
            if self.colors(context, seed, token) {
                let x = &mut candidates.logits_mut()[i];
                *x = limited(x.as_f64() + self.bias, x.is_finite());
            }
        }
        Ok(())
    }
}
