//! Tournament sampling, the watermark of `SynthID`: the distribution stays the same on average over keys.

use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;
use ndarray::{ArrayRef2, ArrayRef3};

use crate::{Candidates, Context, Processor, SamplingError, rows};

/// Rounds of a tournament that one block of random bits has room for.
const MAX_DEPTH: usize = 128;

/// Draws toward tokens that win a tournament of keyed coins.
///
/// ```text
/// w = the last `context` tokens;   h = Philox4x32-10 with the key
/// s_0 = 0, s_t = 64 bits of h(s_(t-1), w_t, 4)          the seed of the place
/// g_l(i) = bit l of h(s, i, 5)                          the coin of token i in round l
/// p^0 = softmax(x),   p^l_i = p^(l-1)_i (1 + g_l(i) - sum_j g_l(j) p^(l-1)_j)
/// x_i <- ln p^depth_i
/// ```
///
/// A round is a contest of two draws: the one with the larger coin wins. So over all coins a token is as likely as before, in contrast to
/// [`Watermark`](crate::watermark::Watermark); text is marked as it agrees with its coins. Where the same `context` tokens were seen among
/// the last `history` places nothing happens, or repetitions would repeat their coins; neither does it with too few tokens so far.
///
/// The hash is ours, as for [`Watermark`](crate::watermark::Watermark). Hugging Face reads coins from a table of `PyTorch`'s generator, has a key
/// for each round, and does not count the prompt among the tokens before.
///
/// # Precision
///
/// `e^(x - max)` is computed in `F`, the rounds and the logarithm in `f64`, rounded once. A token whose probability falls below `1e-308` is
/// masked; Hugging Face gives it the lowest finite number.
///
/// # Example
///
/// ```
/// use llm_sampling::synthid::SynthId;
/// use llm_sampling::{Candidates, Context, Processor, categorical};
/// use ndarray::ArrayView1;
///
/// let synthid = SynthId::new(42, 30, 4, 1024)?;
/// let mut tokens = vec![1_u32, 2, 3, 4];
/// let mut candidates = Candidates::new();
/// for i in 0..100 {
///     candidates.fill(&[0.0_f32; 100])?;
///     synthid.apply(&mut candidates, &Context::new(&tokens, &[]))?;
///     let u = f64::from(i * 37 % 100) / 100.0;
///     let draw = categorical::draw(&ArrayView1::from(candidates.logits()), u)?;
///     tokens.extend(candidates.token(draw.token as usize));
/// }
/// assert!(synthid.detect(&tokens)?.z_score > 4.0);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Dathathri et al. 2024, "Scalable watermarking for identifying large language model outputs", Nature 634, Methods (two-candidate
/// tournaments); compare `SynthIDTextWatermarkLogitsProcessor` of transformers 5.23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthId {
    key: u64,
    depth: usize,
    context: usize,
    history: usize,
}

/// What [`SynthId::detect`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Places that were looked at.
    pub scored: usize,
    /// Share of their coins that show 1; half of them on average without a watermark.
    pub mean: f64,
    /// By how many standard deviations that is above a half.
    pub z_score: f64,
}

impl SynthId {
    /// The processor. Usual are a `depth` of 30, a `context` of 4 and a `history` of 1024; the `key` is secret.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::TournamentDepth`] if that is not in `1..=128`.
    /// - [`SamplingError::WatermarkContext`] if that is 0.
    pub const fn new(
        key: u64,
        depth: usize,
        context: usize,
        history: usize,
    ) -> Result<Self, SamplingError> {
        if depth == 0 || depth > MAX_DEPTH {
            return Err(SamplingError::TournamentDepth(depth));
        }
        if context == 0 {
            return Err(SamplingError::WatermarkContext(context));
        }
        Ok(Self {
            key,
            depth,
            context,
            history,
        })
    }

    /// Compares text with its coins, at the places that would have been marked: those whose `context` tokens are not repeated.
    ///
    /// ```text
    /// n = scored depth,   z = 2 (ones - n / 2) / sqrt(n)
    /// ```
    ///
    /// # Errors
    ///
    /// [`SamplingError::WatermarkTokens`] if there are no more than `context` tokens.
    pub fn detect(&self, tokens: &[u32]) -> Result<Agreement, SamplingError> {
        if tokens.len() <= self.context {
            return Err(SamplingError::WatermarkTokens {
                needed: self.context.saturating_add(1),
                got: tokens.len(),
            });
        }
        let (mut scored, mut ones) = (0, 0_usize);
        for (place, &token) in tokens.iter().enumerate().skip(self.context) {
            let before = Context::new(&tokens[..place], &[]);
            if self.is_repeated(&before) {
                continue;
            }
            let coins = self.coins(self.seed(&before), token);
            ones += (0..self.depth).filter(|&round| bit(coins, round)).count();
            scored += 1;
        }
        let n = (scored * self.depth) as f64;
        Ok(Agreement {
            scored,
            mean: ones as f64 / n,
            z_score: 2.0 * (ones as f64 - n / 2.0) / n.sqrt(),
        })
    }

    /// Of a place with at least `context` tokens before it.
    fn seed(&self, context: &Context<'_>) -> u64 {
        let window = context.tokens().skip(context.len() - self.context);
        window.fold(0, |seed: u64, token| {
            let block = [seed as u32, (seed >> 32) as u32, token, 4];
            let [low, high, ..] = Philox4x32::new(self.key).block(block);
            u64::from(high) << 32 | u64::from(low)
        })
    }

    fn coins(&self, seed: u64, token: u32) -> [u32; 4] {
        let block = [seed as u32, (seed >> 32) as u32, token, 5];
        Philox4x32::new(self.key).block(block)
    }

    /// True if the tokens before this place were before one of the last places, too.
    fn is_repeated(&self, context: &Context<'_>) -> bool {
        let last = context.len() - self.context;
        let same = |start: usize| {
            (0..self.context).all(|i| context.get(start + i) == context.get(last + i))
        };
        (last.saturating_sub(self.history)..last).any(same)
    }
}

impl<F: Float> Processor<F> for SynthId {
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`].
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        if context.len() < self.context || self.is_repeated(context) {
            return Ok(());
        }
        candidates.weigh()?;
        let seed = self.seed(context);
        let mut coins = core::mem::take(&mut candidates.with_scratch().1.indices);
        coins.clear();
        for i in 0..candidates.logits().len() {
            coins.extend(self.coins(seed, candidates.id(i)));
        }
        let (logits, scratch) = candidates.with_scratch();
        let (blocks, _) = coins.as_chunks();
        let coin = |i: usize, round: usize| bit(blocks[i], round);
        play(logits, &scratch.values, &mut scratch.sums, self.depth, coin);
        scratch.indices = coins;
        candidates.compact();
        Ok(())
    }
}

/// Plays a tournament with given coins: the part of [`SynthId`] that has no hash.
///
/// ```text
/// p^0 = softmax(x),   p^l_i = p^(l-1)_i (1 + g_l(i) - sum_j g_l(j) p^(l-1)_j),   x_i <- ln p^depth_i
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`, any strides
/// - `coins`: `[batch, vocab, depth]`, any strides
///
/// # Errors
///
/// - [`SamplingError::Coins`] if the shapes do not fit.
/// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], [`SamplingError::Vocab`].
///
/// On an error, the logits are unchanged.
///
/// # Precision
///
/// That of [`SynthId`].
///
/// # Example
///
/// ```
/// use llm_sampling::synthid;
/// use ndarray::{array, Array3};
///
/// // Of two equal tokens, one has the coin: it wins three contests of four.
/// let mut logits = array![[0.0_f64, 0.0]];
/// let coins = Array3::from_shape_vec([1, 2, 1], vec![true, false])?;
/// synthid::tournament_inplace(&mut logits, &coins)?;
/// assert!((logits[[0, 0]].exp() - 0.75).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: as for [`SynthId`].
pub fn tournament_inplace<F: Float>(
    logits: &mut ArrayRef2<F>,
    coins: &ArrayRef3<bool>,
) -> Result<(), SamplingError> {
    let (batch, vocab, depth) = coins.dim();
    if (batch, vocab) != logits.dim() {
        return Err(SamplingError::Coins {
            expected: logits.dim(),
            got: (batch, vocab),
        });
    }
    let mut candidates = Candidates::new();
    let mut row = 0;
    let check = |row: &[F]| rows::finite_max(row).map(|_| ());
    rows::try_for_each_mut(logits, check, |slice| {
        let weighed = candidates.fill(slice).and_then(|()| candidates.weigh());
        if weighed.is_ok() {
            let scratch = candidates.with_scratch().1;
            let coin = |i: usize, round: usize| coins[[row, i, round]];
            play(slice, &scratch.values, &mut scratch.sums, depth, coin);
        }
        row += 1;
    })
}

/// Replaces logits of the given weights by the logarithms of their chances in the tournament.
fn play<F: Float>(
    logits: &mut [F],
    weights: &[F],
    chances: &mut Vec<f64>,
    depth: usize,
    coin: impl Fn(usize, usize) -> bool,
) {
    let total: f64 = weights.iter().map(|w| w.as_f64()).sum();
    chances.clear();
    chances.extend(weights.iter().map(|w| w.as_f64() / total));
    for round in 0..depth {
        // 1 - sum_j g_j p_j is the chance of the tokens without the coin, which does not cancel. No branches: coins cannot be foreseen.
        let g = |i: usize| f64::from(u8::from(coin(i, round)));
        let pairs = chances.iter().enumerate();
        let lost: f64 = pairs.map(|(i, p)| p * (1.0 - g(i))).sum();
        for (i, p) in chances.iter_mut().enumerate() {
            *p *= g(i) + lost;
        }
    }
    for (x, p) in logits.iter_mut().zip(chances.iter()) {
        *x = F::from_f64(p.ln());
    }
}

fn bit(coins: [u32; 4], round: usize) -> bool {
    coins[round / 32] >> (round % 32) & 1 == 1
}
