//! The logits of one row on their way through processors.

use llm_numerics::{Float, simd};

use crate::top_k::Ties;
use crate::{SamplingError, rows, select, temperature, top_k};

/// The tokens of one row that can still be chosen, with their logits.
///
/// At first these are all ids of the vocabulary, in ascending order, and the index of a token is its id. A processor may mask tokens with
/// `-inf`; [`compact`](Self::compact) then leaves them out, so that what follows has little to do. Either way the order of ids is kept.
///
/// Memory is used again from row to row, so that a chain allocates nothing after its first step.
///
/// # Example
///
/// ```
/// use llm_sampling::Candidates;
///
/// let mut candidates = Candidates::new();
/// candidates.fill(&[0.5_f32, 2.0, 1.0])?;
/// candidates.logits_mut()[0] = f32::NEG_INFINITY;
/// candidates.compact();
/// assert_eq!(candidates.logits(), [2.0, 1.0]);
/// assert_eq!(candidates.token(0), Some(1));
/// assert_eq!(candidates.index(2), Some(1));
/// assert_eq!(candidates.index(0), None); // masked out
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Candidates<F> {
    logits: Vec<F>,
    /// Ids of the logits, ascending; not in use while all are there.
    tokens: Vec<u32>,
    vocab: usize,
    scratch: Scratch<F>,
}

/// Memory for the processors. What it holds is of no meaning between them.
#[derive(Clone, Debug)]
pub struct Scratch<F> {
    /// Numbers in the type of the logits, as weights.
    pub values: Vec<F>,
    /// The same, for what is found out about blocks of the logits.
    pub maxima: Vec<F>,
    /// Numbers in `f64`, as sums.
    pub sums: Vec<f64>,
    /// Indices or ids.
    pub indices: Vec<u32>,
    /// A bit for each id, 32 in a word.
    pub bits: Vec<u32>,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
            indices: Vec::new(),
            bits: Vec::new(),
        }
    }
}

impl<F> Default for Candidates<F> {
    fn default() -> Self {
        Self {
            logits: Vec::new(),
            tokens: Vec::new(),
            vocab: 0,
            scratch: Scratch::default(),
        }
    }
}

impl<F: Float> Candidates<F> {
    /// Without a row.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a copy of a row `[vocab]` in place of what was there.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Vocab`]. NaN is not looked for here: see [`max`](Self::max).
    pub fn fill(&mut self, row: &[F]) -> Result<(), SamplingError> {
        rows::check_vocab(row.len())?;
        self.logits.clear();
        self.logits.extend_from_slice(row);
        self.vocab = row.len();
        Ok(())
    }

    /// Number of token ids, masked ones too.
    #[must_use]
    pub const fn vocab(&self) -> usize {
        self.vocab
    }

    /// Logits of the candidates, in the order of ids; some may be `-inf`.
    #[must_use]
    pub fn logits(&self) -> &[F] {
        &self.logits
    }

    /// The same, to be changed. `-inf` masks a token.
    pub fn logits_mut(&mut self) -> &mut [F] {
        &mut self.logits
    }

    /// The same with memory to work in.
    pub fn with_scratch(&mut self) -> (&mut [F], &mut Scratch<F>) {
        (&mut self.logits, &mut self.scratch)
    }

    /// True if no token has been left out: then the index of a token is its id.
    #[must_use]
    pub fn is_dense(&self) -> bool {
        self.logits.len() == self.vocab
    }

    /// The id of the candidate at an index of [`logits`](Self::logits); `None` beyond the last.
    #[must_use]
    pub fn token(&self, index: usize) -> Option<u32> {
        (index < self.logits.len()).then(|| self.id(index))
    }

    /// [`token`](Self::token) of an index that there is.
    pub(crate) fn id(&self, index: usize) -> u32 {
        if self.is_dense() {
            index as u32 // vocab is at most 2^32
        } else {
            self.tokens[index]
        }
    }

    /// The index of a token in [`logits`](Self::logits); `None` if it was left out, or if there is no such id.
    #[must_use]
    pub fn index(&self, token: u32) -> Option<usize> {
        if self.is_dense() {
            ((token as usize) < self.vocab).then_some(token as usize)
        } else {
            self.tokens.binary_search(&token).ok()
        }
    }

    /// The logit of a token, to be changed; `None` as for [`index`](Self::index).
    pub fn get_mut(&mut self, token: u32) -> Option<&mut F> {
        let index = self.index(token)?;
        self.logits.get_mut(index)
    }

    /// Leaves out the tokens whose logit is `-inf`.
    pub fn compact(&mut self) {
        self.keep_at_least(F::neg_infinity());
    }

    /// Leaves out the tokens whose logit is below a bound, and those that are masked.
    pub fn keep_at_least(&mut self, bound: F) {
        let dense = self.is_dense();
        let Self { logits, tokens, .. } = self;
        let n = simd::vectorize(
            #[inline(always)]
            || {
                let mut n = 0;
                for start in (0..logits.len()).step_by(64) {
                    let end = (start + 64).min(logits.len());
                    let mut stay = select::stay(&logits[start..end], bound);
                    if dense && stay != 0 && tokens.len() < n + 64 {
                        tokens.resize(n + 64, 0);
                    }
                    while stay != 0 {
                        let i = start + stay.trailing_zeros() as usize;
                        logits[n] = logits[i];
                        tokens[n] = if dense { i as u32 } else { tokens[i] }; // vocab is at most 2^32
                        n += 1;
                        stay &= stay - 1;
                    }
                }
                n
            },
        );
        logits.truncate(n);
        if !dense || n < self.vocab {
            tokens.truncate(n);
        }
    }

    /// Leaves out tokens below a bound, and so many of those at it: with the lowest ids, or with the highest.
    pub(crate) fn keep_some_at_least(&mut self, bound: F, dropped: usize, lowest: bool) {
        self.keep_at_least(bound);
        let equals = self.logits.iter_mut().filter(|x| **x == bound);
        let drop = |x: &mut F| *x = F::neg_infinity();
        if dropped > 0 {
            if lowest {
                equals.take(dropped).for_each(drop);
            } else {
                equals.rev().take(dropped).for_each(drop);
            }
            self.compact();
        }
    }

    /// Fills in the `k` largest of a row, divided by a temperature, as [`fill`](Self::fill), a division and a top-k would do.
    ///
    /// The row is read once, and blocks without a large logit are passed over. `k` is at least 1.
    pub(crate) fn fill_largest(
        &mut self,
        row: &[F],
        temperature: f64,
        k: usize,
        ties: Ties,
    ) -> Result<(), SamplingError> {
        rows::check_vocab(row.len())?;
        if select::block_size(row.len(), k).is_none() {
            self.fill(row)?;
            return self.keep_all_largest(temperature, k, ties);
        }
        self.vocab = row.len();
        self.logits.clear();
        let Self {
            logits,
            tokens,
            scratch,
            ..
        } = self;
        likely(row, temperature, k, tokens, scratch)?;
        logits.extend_from_slice(&scratch.values);
        self.keep_all_largest(temperature, k, ties)
    }

    /// A division and a top-k on all logits, as [`fill_largest`](Self::fill_largest).
    pub(crate) fn keep_largest(
        &mut self,
        temperature: f64,
        k: usize,
        ties: Ties,
    ) -> Result<(), SamplingError> {
        if self.is_dense() && select::block_size(self.vocab, k).is_some() {
            let Self {
                logits,
                tokens,
                scratch,
                ..
            } = self;
            likely(logits, temperature, k, tokens, scratch)?;
            logits.clear();
            logits.extend_from_slice(&scratch.values);
        }
        self.keep_all_largest(temperature, k, ties)
    }

    fn keep_all_largest(
        &mut self,
        temperature: f64,
        k: usize,
        ties: Ties,
    ) -> Result<(), SamplingError> {
        self.check()?;
        self.divide(temperature)?;
        top_k::mask(&mut self.logits, k, ties, &mut self.scratch);
        self.compact();
        Ok(())
    }

    /// Divides the logits by a temperature; there is no NaN.
    pub(crate) fn divide(&mut self, temperature: f64) -> Result<(), SamplingError> {
        if temperature < 1.0 {
            let max = select::extent(&self.logits).max;
            let overflow = temperature::check_max(&self.logits, max, temperature);
            overflow.map_err(|e| self.with_token(e))?;
        }
        temperature::divide(&mut self.logits, temperature);
        Ok(())
    }

    /// Brings back the tokens that were left out, with a logit of `-inf`, so that one can be given another.
    pub fn make_dense(&mut self) {
        if self.is_dense() {
            return;
        }
        let n = self.logits.len();
        self.logits.resize(self.vocab, F::neg_infinity());
        // From behind: no logit is written over before it has been moved, as tokens[i] >= i.
        for i in (0..n).rev() {
            let x = self.logits[i];
            self.logits[i] = F::neg_infinity();
            self.logits[self.tokens[i] as usize] = x;
        }
    }

    /// Writes all logits to a row `[vocab]`, `-inf` for tokens that were left out.
    pub(crate) fn write_to(&self, row: &mut [F]) {
        if self.is_dense() {
            row.copy_from_slice(&self.logits);
            return;
        }
        row.fill(F::neg_infinity());
        for (x, &token) in self.logits.iter().zip(&self.tokens) {
            row[token as usize] = *x;
        }
    }

    /// The largest logit, which must be finite.
    ///
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`]; they name row 0.
    pub fn max(&self) -> Result<F, SamplingError> {
        if self.logits.is_empty() {
            return Err(SamplingError::MaskedRow { row: 0 });
        }
        rows::finite_max(&self.logits).map_err(|e| self.with_token(e))
    }

    /// Refuses NaN.
    ///
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`], which names row 0.
    pub fn check(&self) -> Result<(), SamplingError> {
        if self.logits.is_empty() {
            return Ok(());
        }
        rows::check(&self.logits).map_err(|e| self.with_token(e))
    }

    /// The weights `e^(x - max)` of the candidates in [`Scratch::values`], and their sum.
    ///
    /// # Errors
    ///
    /// Those of [`max`](Self::max).
    ///
    /// # Precision
    ///
    /// A weight is computed in `F` (2 units in the last place for `f32`); the sum is in `f64`, in an order that is fixed by the ids, so that it
    /// is the same bits whether masked tokens were left out or not.
    pub fn weigh(&mut self) -> Result<(F, f64), SamplingError> {
        let max = self.max()?;
        let dense = self.is_dense();
        let values = &mut self.scratch.values;
        values.resize(self.logits.len(), F::zero());
        let mut lanes = weights(&self.logits, max, values);
        if !dense {
            lanes = [0.0; 8];
            for (w, &token) in values.iter().zip(&self.tokens) {
                lanes[token as usize % 8] += w.as_f64();
            }
        }
        Ok((max, lanes.iter().sum()))
    }

    /// The entropy in nats; after [`weigh`](Self::weigh), with what that returned.
    pub(crate) fn entropy(&self, max: F, total: f64) -> f64 {
        let mut sum = 0.0;
        for (x, w) in self.logits.iter().zip(&self.scratch.values) {
            if *w > F::zero() {
                sum += w.as_f64() * (max.as_f64() - x.as_f64());
            }
        }
        total.ln() + sum / total
    }

    /// Leaves out logits below a bound, but for the largest `min_tokens_to_keep` (at least 1) and all that equal the last of these.
    pub(crate) fn keep_from(&mut self, mut bound: f64, min_tokens_to_keep: usize) {
        let (logits, scratch) = self.with_scratch();
        if min_tokens_to_keep > 1 && !logits.is_empty() {
            let n = min_tokens_to_keep.min(logits.len());
            let nth = select::kth_largest(logits, n, scratch);
            bound = bound.min(nth.as_f64());
        }
        for x in logits {
            if x.as_f64() < bound {
                *x = F::neg_infinity();
            }
        }
        self.compact();
    }

    /// Leaves only these tokens, each with a logit of 0, even if it was masked before. Ids must be below the vocabulary.
    pub(crate) fn force(&mut self, tokens: &[u32]) {
        self.make_dense();
        self.logits.fill(F::neg_infinity());
        for &token in tokens {
            self.logits[token as usize] = F::zero();
        }
        self.compact();
    }

    /// Refuses ids that the vocabulary does not have.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), SamplingError> {
        let vocab = self.vocab;
        match tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(SamplingError::TokenId { token, vocab }),
            None => Ok(()),
        }
    }

    /// Masks these tokens, as far as they are there.
    pub(crate) fn mask(&mut self, tokens: &[u32]) {
        for &token in tokens {
            if let Some(x) = self.get_mut(token) {
                *x = F::neg_infinity();
            }
        }
    }

    /// Keeps one candidate, by its index.
    pub(crate) fn keep_only(&mut self, index: usize) {
        for (i, x) in self.logits.iter_mut().enumerate() {
            if i != index {
                *x = F::neg_infinity();
            }
        }
        self.compact();
    }

    /// An error about the logits by index, by id instead.
    pub(crate) fn with_token(&self, mut error: SamplingError) -> SamplingError {
        if let SamplingError::NanLogits { token, .. }
        | SamplingError::InfiniteLogits { token, .. }
        | SamplingError::TemperatureOverflow { token, .. } = &mut error
        {
            *token = self.id(*token) as usize;
        }
        error
    }
}

/// Collects the tokens that can be among the `k` largest after a division, and their logits in [`Scratch::values`].
fn likely<F: Float>(
    row: &[F],
    temperature: f64,
    k: usize,
    tokens: &mut Vec<u32>,
    scratch: &mut Scratch<F>,
) -> Result<(), SamplingError> {
    let Scratch { maxima, values, .. } = scratch;
    let block = select::block_size(row.len(), k).unwrap_or(16);
    let extent = select::block_maxima(row, block, maxima);
    rows::check_nan(row, extent.has_nan)?;
    temperature::check_max(row, extent.max, temperature)?;
    // At least k logits are as large. A little less, as the division may round unequal logits to the same.
    let bound = select::bound(maxima, k, values);
    let bound = if bound.is_finite() {
        // Quotients below the smallest normal number are equal from further apart.
        let smallest = F::min_positive_value().as_f64() * temperature.max(1.0);
        bound - bound.abs() * F::epsilon() - F::from_f64(smallest)
    } else {
        bound
    };
    values.clear();
    tokens.clear();
    select::at_least(row, block, maxima, bound, |i| {
        if row[i] > F::neg_infinity() {
            values.push(row[i]);
            tokens.push(i as u32); // vocab is at most 2^32
        }
    });
    Ok(())
}

/// Fills in `e^(x - max)`, and sums every eighth.
fn weights<F: Float>(logits: &[F], max: F, weights: &mut [F]) -> [f64; 8] {
    simd::vectorize(
        #[inline(always)]
        || {
            let mut sums = [0.0_f64; 8];
            let (chunks, rest) = logits.as_chunks::<8>();
            let (weight_chunks, weight_rest) = weights.as_chunks_mut::<8>();
            for (chunk, w) in chunks.iter().zip(weight_chunks) {
                // Copies, so that the compiler sees that nothing overlaps.
                let mut x = *chunk;
                for x in &mut x {
                    *x = (*x - max).fast_exp();
                }
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum += x.as_f64();
                }
                *w = x;
            }
            for ((&x, w), sum) in rest.iter().zip(weight_rest).zip(&mut sums) {
                *w = (x - max).fast_exp();
                *sum += w.as_f64();
            }
            sums
        },
    )
}

/// A result in the type of the logits: where the exact one is finite, the largest number at most, so that nothing looks like a logit without
/// bounds.
pub(crate) fn limited<F: Float>(x: f64, is_finite: bool) -> F {
    let y = F::from_f64(x);
    if is_finite {
        y.min(F::max_value()).max(F::min_value())
    } else {
        y
    }
}
