//! DRY, "don't repeat yourself": tokens that would continue a repeat become less likely, the more so the longer it is.

use core::cmp::Reverse;

use llm_numerics::Float;

use crate::repetition_penalty::PenaltyWindow;
use crate::{Candidates, Context, Processor, SamplingError};

/// Lowers the logits of tokens that would make the end of the text a longer copy of something before.
///
/// ```text
/// t_1 .. t_n: the tokens in the window,   limit = tokens after the last sequence breaker
/// L_i = max { l <= limit : t_(n-l+1) .. t_n = t_(j-l) .. t_(j-1) for some j <= n with t_j = i }
/// x_i <- x_i - multiplier base^min(L_i - allowed_length, most)   for each i with L_i >= allowed_length
/// most = floor(88.7228391 / ln base): beyond it a power overflows f32; without limit for base 1, and where it is 0
/// ```
///
/// Sequence breakers stop matches, so that a line break or a name of a speaker may be repeated. They are token ids here, as this crate has no
/// tokenizer: give each spelling that a tokenizer has for them. Breakers are looked for from the end of the text; of those that begin at
/// the same token, the longest counts. A token that is a breaker by itself is never penalized.
///
/// # Order
///
/// Second in llama.cpp's default chain, between the penalties and top-nσ, so before the temperature. There the window is the last 64 tokens,
/// the prompt included ([`PenaltyWindow::Last`]), the multiplier 0 (off), the base 1.75, the allowed length 2, and the breakers are spelled
/// `\n`, `:`, `"`, `*`.
///
/// # Precision
///
/// The penalty is in `f64`, the difference rounded once. A penalty that overflows masks the token; infinite logits stay as they are. The time is linear in the length of the
/// window (the Z-algorithm), times that of the breakers that begin with the same token, plus a sort of the repeats that are long enough.
///
/// # Example
///
/// ```
/// use llm_sampling::dry::Dry;
/// use llm_sampling::repetition_penalty::PenaltyWindow;
/// use llm_sampling::{Context, processor};
/// use ndarray::array;
///
/// // After 1 2 3 came 0: now that 1 2 3 is there again, another 0 would make it a repeat of four.
/// let context = Context::new(&[1, 2, 3, 0, 4], &[1, 2, 3]);
/// let dry = Dry::new(0.5, 2.0, 2, PenaltyWindow::All, &[])?;
/// let mut logits = array![[1.0_f32, 1.0, 1.0, 1.0, 1.0]];
/// processor::apply_inplace(&mut logits, &[context], &dry)?;
/// assert_eq!(logits, array![[0.0, 1.0, 1.0, 1.0, 1.0]]); // 0.5 · 2^(3 - 2)
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: text-generation-webui, pull request 5677; `llama_sampler_dry` of llama.cpp (llama-cpp-python 0.3.36).
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    multiplier: f64,
    base: f64,
    allowed_length: usize,
    window: PenaltyWindow,
    breakers: Vec<Vec<u32>>, // by the first token, then the longest first
}

impl Dry {
    /// The processor; a multiplier of 0 changes nothing.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::DryMultiplier`] if the multiplier is not finite and at least 0.
    /// - [`SamplingError::DryBase`] if the base is not finite and at least 1.
    /// - [`SamplingError::EmptyBreaker`] with the index of a breaker without tokens.
    pub fn new(
        multiplier: f64,
        base: f64,
        allowed_length: usize,
        window: PenaltyWindow,
        breakers: &[Vec<u32>],
    ) -> Result<Self, SamplingError> {
        if !(multiplier >= 0.0 && multiplier.is_finite()) {
            return Err(SamplingError::DryMultiplier(multiplier));
        }
        if !(base >= 1.0 && base.is_finite()) {
            return Err(SamplingError::DryBase(base));
        }
        if let Some(index) = breakers.iter().position(Vec::is_empty) {
            return Err(SamplingError::EmptyBreaker(index));
        }
        let mut breakers = breakers.to_vec();
        breakers.sort_by_key(|breaker| (breaker[0], Reverse(breaker.len())));
        Ok(Self {
            multiplier,
            base,
            allowed_length,
            window,
            breakers,
        })
    }

    /// The breakers that begin with a token, the longest first.
    fn breakers_from(&self, token: u32) -> &[Vec<u32>] {
        let start = self.breakers.partition_point(|b| b[0] < token);
        let end = self.breakers.partition_point(|b| b[0] <= token);
        &self.breakers[start..end]
    }

    /// How many tokens there are after the last breaker; all without one. The newest token comes first.
    fn since_breaker(&self, newest_first: &[u32]) -> usize {
        if self.breakers.is_empty() {
            return newest_first.len();
        }
        for (i, &token) in newest_first.iter().enumerate() {
            for breaker in self.breakers_from(token) {
                let tail = &breaker[1..];
                if tail.len() <= i && tail.iter().eq(newest_first[i - tail.len()..i].iter().rev()) {
                    return i - tail.len();
                }
            }
        }
        newest_first.len()
    }

    fn penalty(&self, length: usize) -> f64 {
        let mut exponent = (length - self.allowed_length) as f64;
        if self.base > 1.000_001 {
            let most = (88.722_839_1 / self.base.ln()).floor();
            if most > 0.0 {
                exponent = exponent.min(most);
            }
        }
        self.multiplier * self.base.powf(exponent)
    }
}

impl<F: Float> Processor<F> for Dry {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`] if the logit of a token that would continue a repeat is NaN.
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if self.multiplier == 0.0 {
            return Ok(());
        }
        let mut work = core::mem::take(&mut candidates.with_scratch().1.indices);
        let result = self.apply_with(candidates, context, &mut work);
        candidates.with_scratch().1.indices = work;
        result
    }
}

impl Dry {
    /// Works in `work`: the tokens, the lengths of repeats, and an order of them.
    fn apply_with<F: Float>(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
        work: &mut Vec<u32>,
    ) -> Result<(), SamplingError> {
        work.clear();
        work.extend(self.window.tokens(context));
        work.reverse();
        work.truncate(u32::MAX as usize);
        let n = work.len();
        if n <= self.allowed_length {
            return Ok(());
        }
        let limit = self.since_breaker(work);
        if limit < self.allowed_length {
            return Ok(());
        }
        work.resize(3 * n, 0);
        let (newest_first, rest) = work.split_at_mut(n);
        let (lengths, order) = rest.split_at_mut(n);
        repeats(newest_first, lengths);
        let mut count = 0;
        for (k, &length) in lengths.iter().enumerate().skip(1) {
            if length as usize >= self.allowed_length {
                order[count] = k as u32;
                count += 1;
            }
        }
        // For each next token the longest repeat comes first.
        let next = |k: u32| newest_first[k as usize - 1];
        let order = &mut order[..count];
        order.sort_unstable_by_key(|&k| (next(k), Reverse(lengths[k as usize])));
        for same in order.chunk_by(|&a, &b| next(a) == next(b)) {
            let token = next(same[0]);
            if self.breakers_from(token).iter().any(|b| b.len() == 1) {
                continue;
            }
            let Some(x) = candidates.get_mut(token) else {
                continue;
            };
            if x.is_nan() {
                return Err(SamplingError::NanLogits {
                    row: 0,
                    token: token as usize,
                });
            }
            if x.is_infinite() {
                continue; // the penalty may be infinite too
            }
            let length = (lengths[same[0] as usize] as usize).min(limit);
            *x = F::from_f64(x.as_f64() - self.penalty(length));
        }
        Ok(())
    }
}

/// `lengths[k]`: how many tokens from `k` on equal those from 0 on; `lengths[0]` is not set. The Z-algorithm.
fn repeats(tokens: &[u32], lengths: &mut [u32]) {
    let n = tokens.len();
    // The match that reaches furthest: tokens from `start` up to `end` equal those from 0 on.
    let (mut start, mut end) = (0, 0);
    for k in 1..n {
        let mut length = if k < end {
            (lengths[k - start] as usize).min(end - k)
        } else {
            0
        };
        while k + length < n && tokens[length] == tokens[k + length] {
            length += 1;
        }
        if k + length > end {
            (start, end) = (k, k + length);
        }
        lengths[k] = length as u32;
    }
}
