//! The exponential race: a draw as an argmax, as vLLM does it.

use llm_numerics::Float;
use ndarray::ArrayRef1;

use crate::gumbel_max::Uniforms;
use crate::{Candidates, Draw, RowRandom, SamplingError, rows};

/// Draws a token from the softmax of a row of logits: the one whose exponential clock, of its probability as rate, rings first.
///
/// ```text
/// token = argmax_i p_i / q_i,   p = softmax(x),   q_i = -ln u_i,   u_i = gumbel_max::uniform(random, i)
/// ```
///
/// The distribution is that of [`categorical::draw`](crate::categorical::draw). With the same numbers it chooses the same token as
/// [`gumbel_max::draw`](crate::gumbel_max::draw), whose sums are the logarithms of these quotients. Of equal quotients the lowest id wins.
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
/// Last, as it chooses the token: in vLLM after the temperature, min-p, top-k and top-p.
///
/// # Precision
///
/// `e^(x_i - max)` is computed in `F`, the quotient in `f64`. For `f32`, tokens more than 87 nats below the likeliest never win. vLLM has the
/// numbers of a generator with a state in `f32`, so its tokens are others.
///
/// # Example
///
/// ```
/// use llm_sampling::{RowRandom, exponential_race, gumbel_max};
/// use ndarray::array;
///
/// let logits = array![0.0_f32, 1.0, 2.0, 3.0];
/// let random = RowRandom::new(42, 0, 7);
/// assert_eq!(exponential_race::draw(&logits, random)?.token, gumbel_max::draw(&logits, random)?.token);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: `random_sample` of vLLM's `topk_topp_sampler.py`; Devroye 1986, chapter III.4.
pub fn draw<F: Float>(logits: &ArrayRef1<F>, random: RowRandom) -> Result<Draw, SamplingError> {
    let mut candidates = Candidates::new();
    rows::as_slice(logits, &mut Vec::new(), |row| candidates.fill(row))?;
    choose(&mut candidates, random)
}

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
    let (mut best, mut index) = (0.0, 0);
    for i in 0..candidates.logits().len() {
        let weight = candidates.with_scratch().1.values[i].as_f64();
        if weight == 0.0 {
            continue;
        }
        let u = uniforms.get(candidates.id(i));
        // As -ln u >= 1 - u, most quotients are known to be too small without a logarithm.
        if weight < best * (1.0 - u) * (1.0 - 1e-12) {
            continue;
        }
        let quotient = weight / -u.ln();
        if quotient > best {
            (best, index) = (quotient, i);
        }
    }
    Ok(Draw {
        token: candidates.id(index),
        log_probability: candidates.logits()[index].as_f64() - max.as_f64() - total.ln(),
    })
}
