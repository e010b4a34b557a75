//! The logits of one row on their way through processors.

use llm_numerics::{Float, simd};

use crate::{SamplingError, rows};

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
/// assert_eq!(candidates.token(0), 1);
/// assert_eq!(candidates.index(2), Some(1));
/// assert_eq!(candidates.index(0), None); // masked out
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Candidates<F> {
    logits: Vec<F>,
    /// Ids of the logits, ascending; not in use while all are there.
    tokens: Vec<u32>,
    vocab: usize,
    scratch: Scratch<F>,
}

/// Memory for the processors. What it holds is of no meaning between them.
#[derive(Clone, Debug, Default)]
pub struct Scratch<F> {
    /// Numbers in the type of the logits, as weights.
    pub values: Vec<F>,
    /// Numbers in `f64`, as sums.
    pub sums: Vec<f64>,
    /// Indices or ids.
    pub indices: Vec<u32>,
}

impl<F: Float> Candidates<F> {
    /// Without a row.
    #[must_use]
    pub fn new() -> Self {
        Self {
            logits: Vec::new(),
            tokens: Vec::new(),
            vocab: 0,
            scratch: Scratch {
                values: Vec::new(),
                sums: Vec::new(),
                indices: Vec::new(),
            },
        }
    }

    /// Takes a copy of a row `[vocab]` in place of what was there.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Vocab`]. NaN is not looked for here: see [`max`](Self::max).
    pub fn fill(&mut self, row: &[F]) -> Result<(), SamplingError> {
        if row.is_empty() || row.len() as u64 > 1 << 32 {
            return Err(SamplingError::Vocab(row.len()));
        }
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

    /// The id of the candidate at an index of [`logits`](Self::logits).
    ///
    /// # Panics
    ///
    /// If there is none: an index comes from the length of [`logits`](Self::logits).
    #[must_use]
    pub fn token(&self, index: usize) -> u32 {
        assert!(index < self.logits.len(), "index of a candidate");
        if self.is_dense() {
            index as u32
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
        let dense = self.is_dense();
        if dense {
            self.tokens.clear();
        }
        let mut n = 0;
        for i in 0..self.logits.len() {
            if self.logits[i] == F::neg_infinity() {
                continue;
            }
            self.logits[n] = self.logits[i];
            if dense {
                self.tokens.push(i as u32);
            } else {
                self.tokens[n] = self.tokens[i];
            }
            n += 1;
        }
        if n < self.logits.len() {
            self.logits.truncate(n);
            self.tokens.truncate(n);
        }
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
    /// A weight is computed in `F` (2 units in the last place for `f32`); the sum is in `f64`, in a fixed order.
    pub fn weigh(&mut self) -> Result<(F, f64), SamplingError> {
        let max = self.max()?;
        let (logits, values) = (&self.logits, &mut self.scratch.values);
        values.clear();
        values.extend_from_slice(logits);
        let total = simd::vectorize(
            #[inline(always)]
            || {
                let mut lanes = [0.0_f64; 8];
                for chunk in values.chunks_mut(8) {
                    for (lane, w) in lanes.iter_mut().zip(chunk) {
                        *w = (*w - max).fast_exp();
                        *lane += w.as_f64();
                    }
                }
                lanes.iter().sum()
            },
        );
        Ok((max, total))
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
            *token = self.token(*token) as usize;
        }
        error
    }
}
