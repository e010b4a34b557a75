//! The ring of one layer on the device.

use std::ops::Range;

use llm_gpu::{Gpu, GpuTensor, Recorder};

use super::contiguous::{axes, of_rows, record_rows, token};
use super::element::GpuPageElement;
use super::pages::GpuKeysValues;
use super::{GpuKvCacheError, GpuPages, GpuSlots, NO_SLOT, word};
use crate::KvCacheError;
use crate::memory::reserve;
use crate::paged::PageShape;
use crate::ring::{RingConfig, Row};
use crate::token::check_sources;

/// The newest `window + slack` tokens of each sequence of a batch on the device: what [`RingCache`](crate::RingCache) is on the CPU.
///
/// Token `t` of a row lies at place `t % (window + slack)`. Which tokens a row holds is known on the host, so that a crop touches nothing on the
/// device.
///
/// # Shapes
///
/// - keys: `[batch, kv_heads, window + slack, head_dim]`
/// - values: `[batch, kv_heads, window + slack, value_dim]`
///
/// # Invariants
///
/// - Those of the CPU's.
/// - A call that returns an error has changed no row.
/// - A recording that is dropped, or tokens that the kernels refuse, leave rows that say that they hold tokens which nobody wrote. A clone from
///   before is the way back: it has the same memory and books of its own.
///
/// # Example
///
/// ```
/// use llm_kvcache::gpu::GpuRingCache;
/// use llm_kvcache::ring::RingConfig;
/// use ndarray::{Array3, array};
///
/// # let Some(gpu) = llm_kvcache::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// // One row, one head of one feature, a window of 3, slack of 1.
/// let mut cache = GpuRingCache::<f32>::new(&gpu, &RingConfig::new(1, 1, 3, 1).with_slack(1))?;
/// let v = gpu.upload(&Array3::from_shape_fn([1, 6, 1], |(_, t, _)| t as f32))?;
/// let mut recorder = gpu.recorder();
/// cache.append(&mut recorder, 0, &v, &v)?;
/// cache.crop(0, 5)?; // token 5 was a wrong guess
/// let (_, values) = cache.gather(&mut recorder, 0)?;
/// recorder.submit()?;
/// assert_eq!(values.download_blocking()?, array![[[2.0], [3.0], [4.0]]].into_dyn());
/// # Ok::<(), llm_kvcache::gpu::GpuKvCacheError>(())
/// ```
///
/// Source: as for [`RingCache`](crate::RingCache).
#[derive(Clone, Debug)]
pub struct GpuRingCache<E: GpuPageElement> {
    pages: GpuPages<E>,
    rows: Vec<Row>,
    window: usize,
}

impl<E: GpuPageElement> GpuRingCache<E> {
    /// An empty cache with all its memory.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Window`] if `window` is 0.
    /// - [`KvCacheError::Size`] if places cannot be counted in 32 bits, or bytes not at all; [`KvCacheError::Allocation`].
    /// - [`GpuKvCacheError::Gpu`] if the device cannot hold or bind the keys or the values.
    pub fn new(gpu: &Gpu, config: &RingConfig) -> Result<Self, GpuKvCacheError> {
        let shape = PageShape {
            n_pages: config.batch,
            n_kv_heads: config.n_kv_heads,
            page_size: config.capacity()?,
            head_dim: config.head_dim,
            value_dim: config.value_dim,
        };
        let pages = GpuPages::new(gpu, shape)?;
        let mut rows = reserve(config.batch)?;
        rows.resize(config.batch, Row::default());
        Ok(Self {
            pages,
            rows,
            window: config.window,
        })
    }

    /// Records that tokens are added to one row; the oldest make way. Of more than `capacity` tokens only the last are written.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, `seq` may be 0
    /// - `v`: `[kv_heads, seq, value_dim]`
    /// - returns: the slots of the new tokens, which say what the kernels refused ([`GpuSlots::check`]): never anything but from quantized pages
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Row`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`], [`KvCacheError::Seen`],
    ///   [`KvCacheError::Allocation`].
    /// - [`GpuKvCacheError::Rank`], [`GpuKvCacheError::Gpu`].
    ///
    /// # Precision
    ///
    /// As [`GpuPages::write`].
    pub fn append(
        &mut self,
        recorder: &mut Recorder,
        row: usize,
        k: &GpuTensor<f32>,
        v: &GpuTensor<f32>,
    ) -> Result<GpuSlots, GpuKvCacheError> {
        self.row(row)?;
        let [k_shape, v_shape] = [axes("k", k)?, axes("v", v)?];
        token(self.pages.shape()).check(k_shape, v_shape)?;
        self.write(recorder, row..row + 1, k_shape[1], k, v)
    }

    /// Records that as many tokens are added to every row, or none to any.
    ///
    /// # Shapes
    ///
    /// - `k`: `[batch, kv_heads, seq, head_dim]`, `seq` may be 0
    /// - `v`: `[batch, kv_heads, seq, value_dim]`
    /// - returns: as [`append`](Self::append)
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Batch`], and those of [`append`](Self::append).
    ///
    /// # Precision
    ///
    /// As [`GpuPages::write`].
    pub fn append_all(
        &mut self,
        recorder: &mut Recorder,
        k: &GpuTensor<f32>,
        v: &GpuTensor<f32>,
    ) -> Result<GpuSlots, GpuKvCacheError> {
        let [k_shape, v_shape] = of_rows(self.batch(), k, v)?;
        token(self.pages.shape()).check(k_shape, v_shape)?;
        self.write(recorder, 0..self.batch(), k_shape[1], k, v)
    }

    fn write(
        &mut self,
        recorder: &mut Recorder,
        rows: Range<usize>,
        seq: usize,
        k: &GpuTensor<f32>,
        v: &GpuTensor<f32>,
    ) -> Result<GpuSlots, GpuKvCacheError> {
        let capacity = self.capacity();
        for row in rows.clone() {
            self.rows[row].check_append(row, seq)?;
        }
        let mut slots = reserve(rows.len().saturating_mul(seq))?;
        for row in rows.clone() {
            let state = self.rows[row];
            let first = state.first_written(seq, capacity);
            slots.extend((state.seen..state.seen + seq).map(|token| {
                if token < first {
                    NO_SLOT
                } else {
                    word(row * capacity + token % capacity)
                }
            }));
        }
        let slots = GpuSlots::of_list(recorder.gpu(), self.pages.shape(), &slots, true)?;
        self.pages.write(recorder, &slots, k, v)?;
        for state in &mut self.rows[rows] {
            *state = state.appended(seq, capacity);
        }
        Ok(slots)
    }

    /// Records a copy of the keys and values of one row in their order, widened.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, kv_seq, head_dim]` and `[kv_heads, kv_seq, value_dim]`, `kv_seq = seen - first_position`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], [`KvCacheError::Allocation`], [`GpuKvCacheError::Gpu`].
    ///
    /// # Precision
    ///
    /// As [`GpuPages::gather`].
    pub fn gather(
        &self,
        recorder: &mut Recorder,
        row: usize,
    ) -> Result<GpuKeysValues, GpuKvCacheError> {
        let Row { first, seen } = self.row(row)?;
        let capacity = self.capacity();
        let mut slots = reserve(seen - first)?;
        slots.extend((first..seen).map(|token| word(row * capacity + token % capacity)));
        let slots = GpuSlots::of_list(recorder.gpu(), self.pages.shape(), &slots, false)?;
        self.pages.gather(recorder, &slots)
    }

    /// Records that every row `i` becomes what row `rows[i]` was: the survivors of a beam search.
    ///
    /// # Shapes
    ///
    /// - `rows`: `[batch]`; a row may be named often or never
    ///
    /// # Errors
    ///
    /// [`KvCacheError::ReorderLen`], [`KvCacheError::Row`], [`GpuKvCacheError::Gpu`] if there is no room for scratch memory.
    ///
    /// # Precision
    ///
    /// Exact: bits are copied.
    pub fn reorder(
        &mut self,
        recorder: &mut Recorder,
        rows: &[usize],
    ) -> Result<(), GpuKvCacheError> {
        check_sources(self.batch(), rows.len())?;
        let (mut states, mut places) = (reserve(rows.len())?, reserve(rows.len())?);
        for &row in rows {
            let state = self.row(row)?;
            states.push(state);
            places.push(state.seen.min(self.capacity())); // behind them nothing is held
        }
        record_rows(recorder, &self.pages, rows, &places)?;
        self.rows = states;
        Ok(())
    }

    /// Keeps the tokens before position `seen`, as after a rejected guess. Nothing is recorded.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], [`KvCacheError::CropLen`], [`KvCacheError::CropLost`] as [`RingCache::crop`](crate::RingCache::crop).
    pub fn crop(&mut self, row: usize, seen: usize) -> Result<(), GpuKvCacheError> {
        let state = self.row(row)?;
        state.check_crop(row, seen, self.window)?;
        self.rows[row] = state.cropped(seen);
        Ok(())
    }

    /// Forgets all tokens of all rows; the memory stays.
    pub fn clear(&mut self) {
        self.rows.fill(Row::default());
    }

    /// Position of the oldest token that a row holds.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn first_position(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.row(row)?.first)
    }

    /// Tokens that a row has seen: the position of the next.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn seen(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.row(row)?.seen)
    }

    /// The memory, a page of `capacity` tokens for each row.
    #[must_use]
    pub const fn pages(&self) -> &GpuPages<E> {
        &self.pages
    }

    /// Number of rows.
    #[must_use]
    pub const fn batch(&self) -> usize {
        self.rows.len()
    }

    /// Keys that a query sees, its own included.
    #[must_use]
    pub const fn window(&self) -> usize {
        self.window
    }

    /// Tokens that a row holds at most: `window + slack`.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.pages.shape().page_size
    }

    fn row(&self, row: usize) -> Result<Row, KvCacheError> {
        let batch = self.batch();
        let state = self.rows.get(row).copied();
        state.ok_or(KvCacheError::Row { row, batch })
    }
}
