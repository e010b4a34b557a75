//! KIVI: keys quantized per channel, values per token, and the newest tokens as they are.

mod read;
mod row;

use ndarray::{ArrayRef3, ArrayRef4};

use crate::KvCacheError;
use crate::affine::check;
use crate::error::Largest;
use crate::memory::reserve;
use crate::token::{self, TokenShape};
pub(crate) use row::{Row, Strides};

/// The settings of a [`KiviCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KiviConfig {
    /// Bits of a code: 2, 4 or 8.
    pub bits: u32,
    /// Tokens that share the step of a key's channel, and features that share that of a value.
    pub group: usize,
    /// Tokens that stay as they are: a multiple of `group`, or 0.
    pub residual: usize,
}

impl KiviConfig {
    /// Settings as the paper names them: it has 2 bits, groups of 32 and a residual of 32 or 128.
    #[must_use]
    pub fn new(bits: u32, group: usize, residual: usize) -> Self {
        Self {
            bits,
            group,
            residual,
        }
    }

    fn check(self) -> Result<(), KvCacheError> {
        let setting = |name, rule, got| Err(KvCacheError::Setting { name, rule, got });
        if !matches!(self.bits, 2 | 4 | 8) {
            return setting("bits", "2, 4 or 8", self.bits as usize);
        }
        let per_byte = 8 / self.bits as usize;
        if self.group == 0 || !self.group.is_multiple_of(per_byte) {
            return setting("group", "positive and whole bytes of codes", self.group);
        }
        if !self.residual.is_multiple_of(self.group) {
            return setting("residual", "a multiple of group", self.residual);
        }
        Ok(())
    }

    /// Keys that are quantized together.
    fn key_block(self) -> usize {
        self.residual.max(self.group)
    }
}

/// Keys and values of one layer for a batch of sequences, most of them quantized.
///
/// ```text
/// x = min + scale * code      code in 0 .. 2^bits,  scale and min in f16
/// keys:   one scale and min for each channel of `group` tokens
/// values: one for each `group` features of a token
/// ```
///
/// Channels of keys differ much more from each other than tokens do, and the channels of values do
/// not; so each is grouped along the axis along which it is even. A channel's group is complete only after `group`
/// tokens, so new keys wait, as they are, until there are `max(residual, group)` of them, and
/// then all of these are quantized. Values are quantized one token at a time, when `residual` newer
/// ones have come.
///
/// As long as tokens only come, nothing is quantized twice. [`crop`](Self::crop) into a group of keys makes the tokens
/// that remain of it wait again, with the numbers that they had become (at most 65504), and they are quantized again,
/// with other tokens and another step, when their group is full: the errors add. Values are not quantized again. A
/// `residual` longer than the longest guess keeps values that may be taken back as they are; keys are quantized
/// `residual` at a time, so that a guess may still reach back into a group.
///
/// # Shapes
///
/// - in: `[kv_heads, seq, head_dim]` and `[kv_heads, seq, value_dim]`, f32
/// - out: the same, widened
///
/// # Precision
///
/// Waiting tokens have the bits that went in, but for keys that a crop into a group made wait again. Others are off by
/// at most half the step of their group (and of each group that they were in before), and the rounding of `f32`. Numbers above 65504 in absolute value and NaN are refused.
///
/// # Example
///
/// ```
/// use llm_kvcache::kivi::{KiviCache, KiviConfig};
/// use ndarray::Array3;
///
/// // 2 bits, groups of 4, the last 4 tokens as they are.
/// let config = KiviConfig::new(2, 4, 4);
/// let mut cache = KiviCache::new(1, 1, 4, 4, &config)?;
/// // Channels that differ, tokens that hardly do.
/// let k = Array3::from_shape_fn([1, 10, 4], |(_, t, d)| (50 * d * d + t) as f32);
/// cache.append(0, &k, &k)?;
/// assert_eq!(cache.quantized_keys(0)?, 8); // two groups
/// assert_eq!(cache.quantized_values(0)?, 6); // all but the last four
/// let (keys, values) = cache.gather(0)?;
/// let error = |x: &Array3<f32>| (x - &k).fold(0.0, |max: f32, x| max.max(x.abs()));
/// assert_eq!(error(&keys), 0.0); // the steps of a channel are 1
/// assert!(error(&values) > 10.0); // such values are not what the scheme is for
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: Liu et al., KIVI, arXiv:2402.02750v2, section 3.2 and algorithm 1.
#[derive(Clone, Debug)]
pub struct KiviCache {
    rows: Vec<Row>,
    shape: TokenShape,
    config: KiviConfig,
}

impl KiviCache {
    /// Empty sequences. Memory is taken as tokens come.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Setting`] for the settings, and [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn new(
        batch: usize,
        n_kv_heads: usize,
        head_dim: usize,
        value_dim: usize,
        config: &KiviConfig,
    ) -> Result<Self, KvCacheError> {
        config.check()?;
        // All strides must be countable.
        let axes = [n_kv_heads, head_dim.max(value_dim), config.group, 1];
        axes.iter()
            .try_fold(8_usize, |n, &axis| n.checked_mul(axis.max(1)))
            .filter(|&n| isize::try_from(n).is_ok())
            .ok_or(KvCacheError::Size {
                axes,
                element_bytes: 8,
            })?;
        let mut rows = reserve(batch)?;
        rows.resize_with(batch, Row::default);
        Ok(Self {
            rows,
            shape: TokenShape {
                n_kv_heads,
                head_dim,
                value_dim,
            },
            config: *config,
        })
    }

    /// Adds tokens to one sequence.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    /// - `v`: `[kv_heads, seq, value_dim]`, any strides
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`],
    /// [`KvCacheError::NotQuantizable`], [`KvCacheError::Seen`], [`KvCacheError::Size`] and [`KvCacheError::Allocation`].
    pub fn append(
        &mut self,
        row: usize,
        k: &ArrayRef3<f32>,
        v: &ArrayRef3<f32>,
    ) -> Result<(), KvCacheError> {
        self.row(row)?;
        self.shape.check(k.dim().into(), v.dim().into())?;
        check("k", k.view(), Largest::F16)?;
        check("v", v.view(), Largest::F16)?;
        self.check_count(row, k.dim().1)?;
        self.rows[row].reserve(k.dim().1, self.shape, self.config)?;
        self.rows[row].append(&k.view(), &v.view(), self.shape, self.config);
        Ok(())
    }

    /// Adds as many tokens to every sequence, or none to any.
    ///
    /// # Shapes
    ///
    /// - `k`: `[batch, kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    /// - `v`: `[batch, kv_heads, seq, value_dim]`, any strides
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Batch`], and those of [`append`](Self::append).
    pub fn append_all(
        &mut self,
        k: &ArrayRef4<f32>,
        v: &ArrayRef4<f32>,
    ) -> Result<(), KvCacheError> {
        let (k_shape, v_shape) = token::of_rows(self.batch(), k, v)?;
        self.shape.check(k_shape, v_shape)?;
        for row in 0..self.batch() {
            self.check_count(row, k_shape[1])?;
        }
        for (row, (k, v)) in self.rows.iter_mut().zip(k.outer_iter().zip(v.outer_iter())) {
            check("k", k, Largest::F16)?;
            check("v", v, Largest::F16)?;
            row.reserve(k_shape[1], self.shape, self.config)?;
        }
        for (row, (k, v)) in self.rows.iter_mut().zip(k.outer_iter().zip(v.outer_iter())) {
            row.append(&k, &v, self.shape, self.config);
        }
        Ok(())
    }

    /// Keeps the first `len` tokens of one sequence, as after a rejected guess.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], [`KvCacheError::CropLen`] if the row holds fewer, and [`KvCacheError::Allocation`].
    pub fn crop(&mut self, row: usize, len: usize) -> Result<(), KvCacheError> {
        let old = self.row(row)?.len;
        if len > old {
            return Err(KvCacheError::CropLen {
                row,
                len: old,
                got: len,
            });
        }
        self.rows[row].crop(len, self.shape, self.config)
    }

    /// Replaces every sequence `i` by what sequence `rows[i]` was: the survivors of a beam search.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::ReorderLen`], and those of [`select`](Self::select).
    pub fn reorder(&mut self, rows: &[usize]) -> Result<(), KvCacheError> {
        token::check_sources(self.batch(), rows.len())?;
        *self = self.select(rows)?;
        Ok(())
    }

    /// A new cache whose sequence `i` is sequence `rows[i]` of this one.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], and [`KvCacheError::Allocation`] for the list of rows.
    pub fn select(&self, rows: &[usize]) -> Result<Self, KvCacheError> {
        let mut new = reserve(rows.len())?;
        for &row in rows {
            new.push(self.row(row)?.clone());
        }
        Ok(Self { rows: new, ..*self })
    }

    /// Forgets all tokens of all sequences, and gives their memory back.
    pub fn clear(&mut self) {
        self.rows.fill_with(Row::default);
    }

    /// Tokens that one sequence holds.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn len(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.row(row)?.len)
    }

    /// True if no sequence holds a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.len == 0)
    }

    /// Leading tokens of a sequence whose keys are quantized.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn quantized_keys(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.row(row)?.quantized_keys)
    }

    /// Leading tokens of a sequence whose values are quantized.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn quantized_values(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.row(row)?.quantized_values)
    }

    /// Number of sequences.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.rows.len()
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &KiviConfig {
        &self.config
    }

    /// Bytes of what all sequences hold: codes, steps, least values, and waiting tokens.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(Row::bytes).sum()
    }

    pub(crate) fn sizes(&self) -> [usize; 3] {
        [
            self.shape.n_kv_heads,
            self.shape.head_dim,
            self.shape.value_dim,
        ]
    }

    pub(crate) fn strides(&self) -> Strides {
        Strides::new(self.shape, self.config)
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn with_rows(self, rows: Vec<Row>) -> Self {
        Self { rows, ..self }
    }

    fn row(&self, row: usize) -> Result<&Row, KvCacheError> {
        self.rows.get(row).ok_or(KvCacheError::Row {
            row,
            batch: self.batch(),
        })
    }

    /// Refuses tokens that could not be counted, or not their heads and features: places are computed from them,
    /// even where there is nothing to store.
    fn check_count(&self, row: usize, seq: usize) -> Result<(), KvCacheError> {
        let seen = self.row(row)?.len;
        let len = (seen.checked_add(seq)).ok_or(KvCacheError::Seen { row, seen, seq })?;
        let TokenShape {
            n_kv_heads,
            head_dim,
            value_dim,
        } = self.shape;
        let axes = [1, n_kv_heads, len, head_dim.max(value_dim)];
        (axes.iter())
            .try_fold(size_of::<f32>(), |n, &axis| n.checked_mul(axis.max(1)))
            .map(|_| ())
            .ok_or(KvCacheError::Size {
                axes,
                element_bytes: size_of::<f32>(),
            })
    }
}
