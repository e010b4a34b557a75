//! Gumbel-max: a draw as an argmax, with a random number for each token.

use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;
use ndarray::ArrayRef1;

use crate::{Candidates, Draw, RowRandom, SamplingError, rows};

/// Draws a token from the softmax of a row of logits: the largest sum of a logit and Gumbel noise.
///
/// ```text
/// token = argmax_i (x_i + g_i),   g_i = -ln(-ln u_i),   u_i = uniform(random, i)
/// ```
///
/// The distribution is that of [`categorical::draw`](crate::categorical::draw). As each token has a number of its own, nothing is summed, and
/// rows can be split; a token wins or loses against others whatever else is masked. Of equal sums the lowest id wins.
///
/// # Shapes
///
/// - `logits`: `[vocab]`, any stride; `-inf` is masked out
///
/// # Errors
///
/// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], [`SamplingError::Vocab`]; they name row 0.
///
/// # Order
///
/// Last, as it chooses the token: after the temperature and all filters.
///
/// # Precision
///
/// In `f64`. Noise is between -3.7 and 36.8, so a token more than 40.5 below another never wins: its probability is below `3e-18`.
///
/// # Example
///
/// ```
/// use llm_sampling::{RowRandom, gumbel_max};
/// use ndarray::array;
///
/// let logits = array![0.0_f32, 3.0, f32::NEG_INFINITY];
/// let draw = gumbel_max::draw(&logits, RowRandom::new(42, 0, 7))?;
/// assert_eq!(draw, gumbel_max::draw(&logits, RowRandom::new(42, 0, 7))?);
/// assert_ne!(draw.token, 2);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Gumbel 1954; Maddison, Tarlow, Minka 2014, arXiv:1411.0030v2 §2.
pub fn draw<F: Float>(logits: &ArrayRef1<F>, random: RowRandom) -> Result<Draw, SamplingError> {
    let mut candidates = Candidates::new();
    rows::as_slice(logits, &mut Vec::new(), |row| candidates.fill(row))?;
    choose(&mut candidates, random)
}

/// No noise is larger: `-ln(-ln(1 - 2^-53))` is 36.74.
const MOST: f64 = 36.75;
/// More than the rounding of a weight and of an exponential: what is passed over without a logarithm could not have won.
const MARGIN: f64 = 1.000_01;

/// [`draw`] from the candidates that processors have left.
///
/// # Errors
///
/// Those of [`draw`].
pub fn choose<F: Float>(
    candidates: &mut Candidates<F>,
    random: RowRandom,
) -> Result<Draw, SamplingError> {
    let (max, total) = candidates.weigh()?;
    let mut uniforms = Uniforms::new(random);
    let (mut best, mut index) = (f64::NEG_INFINITY, 0);
    // As -ln u >= 1 - u, a sum above `best` needs 1 - u below e^(x - best), which is the weight times this factor.
    let mut reach = f64::INFINITY;
    // ANCHOR: choose
    for i in 0..candidates.logits().len() {
        let x = candidates.logits()[i].as_f64();
        if x + MOST <= best || x == f64::NEG_INFINITY {
            continue; // whatever its noise would be
        }
        let u = uniforms.get(candidates.id(i));
        if 1.0 - u >= candidates.with_scratch().1.values[i].as_f64() * reach {
            continue;
        }
        let sum = x - (-u.ln()).ln();
        if sum > best {
            (best, index) = (sum, i);
            reach = (max.as_f64() - best).exp() * MARGIN;
        }
    }
    // ANCHOR_END: choose
    Ok(Draw {
        token: candidates.id(index),
        log_probability: candidates.logits()[index].as_f64() - max.as_f64() - total.ln(),
    })
}

/// The number of a token in `(0, 1)`, for [`draw`] and for [`exponential_race::draw`](crate::exponential_race::draw).
///
/// ```text
/// key = words 0 and 1 of block 2^63 + step of the stream, by Philox(seed)
/// u_i = Philox(key).uniform_f64(0, i), but 2^-54 for 0
/// ```
///
/// No other number of a [`RowRandom`] comes from these blocks.
#[must_use]
pub fn uniform(random: RowRandom, token: u32) -> f64 {
    Uniforms::new(random).get(token)
}

/// The numbers of all tokens. A block of the generator makes those of two neighbors.
pub(crate) struct Uniforms {
    philox: Philox4x32,
    block: Option<(u64, [u32; 4])>,
}

impl Uniforms {
    pub(crate) const fn new(random: RowRandom) -> Self {
        let block = Philox4x32::new(random.seed).block_at(random.stream, 1 << 63 | random.step);
        Self {
            philox: Philox4x32::new((block[1] as u64) << 32 | block[0] as u64),
            block: None,
        }
    }

    pub(crate) fn get(&mut self, token: u32) -> f64 {
        let index = u64::from(token / 2);
        let words = match self.block {
            Some((at, words)) if at == index => words,
            _ => self.philox.block_at(0, index),
        };
        self.block = Some((index, words));
        let half = 2 * (token % 2) as usize;
        let bits = u64::from(words[half + 1]) << 32 | u64::from(words[half]);
        let u = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        if u == 0.0 {
            0.5 / (1_u64 << 53) as f64
        } else {
            u
        }
    }
}
