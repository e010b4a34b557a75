//! Mirostat: how many tokens stay follows from how surprising the last ones were.

use core::f64::consts::LN_2;

use llm_numerics::Float;
use ndarray::ArrayRef1;

use crate::top_k::{self, Ties};
use crate::{Candidates, Draw, SamplingError, categorical, rows, select};

/// Which of the two rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MirostatVersion {
    /// Top-k, with `k` from an estimate of Zipf's exponent; the estimate looks at so many tokens, 100 in the paper and in llama.cpp.
    V1 {
        /// At least 2.
        n_estimate: usize,
    },
    /// All tokens with at most `mu` bits of surprise.
    V2,
}

/// Settings of mirostat; the state is a number, `mu`, that comes in and goes out.
///
/// ```text
/// p = softmax(x), sorted:  p_1 >= p_2 >= ..
/// V1:  s = sum t_i b_i / sum t_i^2,   t_i = ln((i + 1) / i),  b_i = ln(p_i / p_(i+1)),  i = 1..n_estimate - 1
///      e = s - 1,   k = floor((e 2^mu / (1 - vocab^-e))^(1/s)), at least 1;   the k likeliest stay
/// V2:  tokens with -log2 p_i <= mu stay, the likeliest always
/// both: draw from what stays;   mu <- mu - eta (-log2 q - tau),   q = the probability of the draw among what stayed
/// ```
///
/// `tau` is the surprise in bits that the text shall have on average, `eta` how fast `mu` follows. `mu` begins with `2 tau`, and each sequence
/// has its own. Masked tokens do not count, but for `vocab`. Where `e` is 0, `k` takes its limit; where `s` is 0, all tokens stay if `k` grows
/// beyond bounds (llama.cpp leaves both to its float arithmetic).
///
/// # Order
///
/// Last, as it chooses the token. In llama.cpp mirostat replaces the default chain: only the logit bias and the temperature come before.
/// Its defaults are `tau = 5`, `eta = 0.1`.
///
/// # Precision
///
/// V1 works on logits in `f64`, V2 on weights in `F`; surprise in `f64`.
///
/// # Example
///
/// ```
/// use llm_sampling::mirostat::{self, Mirostat, MirostatVersion};
/// use ndarray::array;
///
/// // Probabilities 1/2, 1/4, 1/8, 1/8; at most 2 bits of surprise: two tokens stay, with 2/3 and 1/3.
/// let logits = array![0.0_f64, -1.0, -2.0, -2.0] * 2_f64.ln();
/// let config = Mirostat::new(MirostatVersion::V2, 1.0, 0.5)?;
/// assert_eq!(config.initial_mu(), 2.0);
/// let (draw, mu) = mirostat::draw(&logits, &config, config.initial_mu(), 0.9)?;
/// assert_eq!(draw.token, 1);
/// assert!((mu - (2.0 - 0.5 * (3_f64.log2() - 1.0))).abs() < 1e-12);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Basu et al. 2020, arXiv:2007.14966; `llama_sampler_mirostat` and `llama_sampler_mirostat_v2` of llama.cpp (llama-cpp-python
/// 0.3.36).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    version: MirostatVersion,
    tau: f64,
    eta: f64,
}

impl Mirostat {
    /// The settings.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::MirostatEstimate`] if version 1 estimates from less than 2 tokens.
    /// - [`SamplingError::MirostatTau`], [`SamplingError::MirostatEta`] if one is not finite and at least 0.
    pub fn new(version: MirostatVersion, tau: f64, eta: f64) -> Result<Self, SamplingError> {
        if let MirostatVersion::V1 { n_estimate } = version
            && n_estimate < 2
        {
            return Err(SamplingError::MirostatEstimate(n_estimate));
        }
        if !(tau >= 0.0 && tau.is_finite()) {
            return Err(SamplingError::MirostatTau(tau));
        }
        if !(eta >= 0.0 && eta.is_finite()) {
            return Err(SamplingError::MirostatEta(eta));
        }
        Ok(Self { version, tau, eta })
    }

    /// The state of a sequence without tokens: `2 tau`.
    #[must_use]
    pub const fn initial_mu(&self) -> f64 {
        2.0 * self.tau
    }

    /// The state after a token with this natural logarithm of its probability.
    #[must_use]
    pub fn next_mu(&self, mu: f64, log_probability: f64) -> f64 {
        mu - self.eta * (-log_probability / LN_2 - self.tau)
    }

    /// Masks what does not stay.
    ///
    /// # Errors
    ///
    /// [`SamplingError::MirostatMu`] if `mu` is NaN; [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`],
    /// [`SamplingError::MaskedRow`].
    pub fn mask<F: Float>(
        &self,
        candidates: &mut Candidates<F>,
        mu: f64,
    ) -> Result<(), SamplingError> {
        if mu.is_nan() {
            return Err(SamplingError::MirostatMu(mu));
        }
        match self.version {
            MirostatVersion::V1 { n_estimate } => {
                candidates.max()?;
                let k = count(candidates, n_estimate, mu);
                let (logits, scratch) = candidates.with_scratch();
                top_k::mask(logits, k, Ties::Exact, scratch);
            }
            MirostatVersion::V2 => {
                let (max, total) = candidates.weigh()?;
                let bound = total * (-mu).exp2();
                let (logits, scratch) = candidates.with_scratch();
                if bound > 1.0 {
                    // Even the likeliest token, of weight 1, is too surprising.
                    let likeliest = logits.iter().position(|x| *x == max).unwrap_or(0);
                    candidates.keep_only(likeliest);
                } else {
                    for (x, w) in logits.iter_mut().zip(&scratch.values) {
                        if w.as_f64() < bound {
                            *x = F::neg_infinity();
                        }
                    }
                }
            }
        }
        candidates.compact();
        Ok(())
    }

    /// [`draw`] from the candidates that processors have left.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Uniform`], and those of [`mask`](Self::mask).
    pub fn choose<F: Float>(
        &self,
        candidates: &mut Candidates<F>,
        mu: f64,
        u: f64,
    ) -> Result<(Draw, f64), SamplingError> {
        categorical::check_uniform(u)?;
        self.mask(candidates, mu)?;
        let draw = categorical::choose(candidates, u)?;
        Ok((draw, self.next_mu(mu, draw.log_probability)))
    }
}

/// Draws a token, and returns it with the state for the next one. The rule is at [`Mirostat`].
///
/// The same `mu`, logits and `u` give the same token and state. Of what stays, the token is the one whose slice of the cumulative distribution
/// contains `u`, in the order of ids, as in [`categorical::draw`].
///
/// # Shapes
///
/// - `logits`: `[vocab]`, any stride
///
/// # Errors
///
/// [`SamplingError::MirostatMu`], [`SamplingError::Uniform`], [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`],
/// [`SamplingError::MaskedRow`], [`SamplingError::Vocab`]; they name row 0.
///
/// # Example
///
/// See [`Mirostat`].
pub fn draw<F: Float>(
    logits: &ArrayRef1<F>,
    config: &Mirostat,
    mu: f64,
    u: f64,
) -> Result<(Draw, f64), SamplingError> {
    let mut candidates = Candidates::new();
    rows::as_slice(logits, &mut Vec::new(), |row| candidates.fill(row))?;
    config.choose(&mut candidates, mu, u)
}

/// `k` of version 1, at least 1 and at most what there is.
fn count<F: Float>(candidates: &mut Candidates<F>, n_estimate: usize, mu: f64) -> usize {
    let vocab = candidates.vocab() as f64;
    let (logits, scratch) = candidates.with_scratch();
    let sorted = &mut scratch.sums;
    sorted.clear();
    for x in logits.iter() {
        if *x > F::neg_infinity() {
            sorted.push(x.as_f64());
        }
    }
    let available = sorted.len();
    if available < 2 {
        return 1;
    }
    if n_estimate < available {
        sorted.select_nth_unstable_by(n_estimate - 1, |a, b| select::descending(*a, *b));
        sorted.truncate(n_estimate);
    }
    sorted.sort_unstable_by(|a, b| select::descending(*a, *b));
    let (mut products, mut squares) = (0.0, 0.0);
    for (i, pair) in sorted.windows(2).enumerate() {
        let t = (1.0 / (i + 1) as f64).ln_1p();
        products += t * (pair[0] - pair[1]);
        squares += t * t;
    }
    let s = products / squares;
    let e = s - 1.0;
    let shrink = -(-e * vocab.ln()).exp_m1(); // 1 - vocab^-e
    let ratio = if e == 0.0 {
        1.0 / vocab.ln()
    } else {
        e / shrink
    };
    let k = ((mu * LN_2 + ratio.ln()) / s).exp();
    if k >= available as f64 {
        return available;
    }
    (k as usize).max(1) // NaN is 0
}
