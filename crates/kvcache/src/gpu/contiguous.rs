//! The contiguous cache of one layer on the device.

use llm_gpu::{Gpu, GpuTensor, Recorder};

use super::element::GpuPageElement;
use super::moves::{Plan, Run};
use super::pages::GpuKeysValues;
use super::{GpuKvCacheError, GpuPages, GpuSlots, word};
use crate::KvCacheError;
use crate::memory::reserve;
use crate::paged::PageShape;
use crate::token::{TokenShape, check_sources};

/// Keys and values of one layer on the device, for a batch of sequences of their own lengths: what
/// [`ContiguousCache`](crate::ContiguousCache) is on the CPU.
///
/// The lengths are on the host, so that a crop touches nothing on the device. A row is a page of `capacity` tokens: attention's kernels for
/// pages read it by [`block_table`](Self::block_table).
///
/// # Shapes
///
/// - keys: `[batch, kv_heads, capacity, head_dim]`
/// - values: `[batch, kv_heads, capacity, value_dim]`
///
/// # Invariants
///
/// - There is one length for each row, and none is above `capacity`.
/// - A call that returns an error has changed no length, and nothing below a length.
/// - A recording that is dropped leaves the lengths with tokens that nobody wrote: the rows have to be cropped to what they were.
///
/// # Example
///
/// ```
/// use llm_kvcache::gpu::GpuContiguousCache;
/// use ndarray::array;
///
/// # let Some(gpu) = llm_kvcache::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let mut cache = GpuContiguousCache::<f32>::new(&gpu, 2, 1, 8, 1, 1)?; // two rows, one head, one feature
/// let x = gpu.upload(&array![[[[1.0_f32], [2.0]]], [[[3.0], [4.0]]]])?; // [batch, kv_heads, seq, head_dim]
/// let mut recorder = gpu.recorder();
/// cache.append_all(&mut recorder, &x, &x)?;
/// cache.reorder(&mut recorder, &[1, 1])?; // beam search kept the second row twice
/// cache.crop(0, 1)?; // and took a token back
/// let (keys, _) = cache.gather(&mut recorder, 0)?;
/// recorder.submit()?;
/// assert_eq!(keys.download_blocking()?, array![[[3.0]]].into_dyn());
/// assert_eq!(cache.lengths(), [1, 2]);
/// # Ok::<(), llm_kvcache::gpu::GpuKvCacheError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GpuContiguousCache<E: GpuPageElement> {
    pages: GpuPages<E>,
    lengths: Vec<usize>,
    capacity: usize,
}

impl<E: GpuPageElement> GpuContiguousCache<E> {
    /// An empty cache with all its memory.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Size`] if places cannot be counted in 32 bits, or bytes not at all; [`KvCacheError::Allocation`].
    /// - [`GpuKvCacheError::Gpu`] if the device cannot hold or bind the keys or the values.
    pub fn new(
        gpu: &Gpu,
        batch: usize,
        n_kv_heads: usize,
        capacity: usize,
        head_dim: usize,
        value_dim: usize,
    ) -> Result<Self, GpuKvCacheError> {
        let shape = PageShape {
            n_pages: batch,
            n_kv_heads,
            page_size: capacity.max(1), // a page has a token, though nobody writes it
            head_dim,
            value_dim,
        };
        let pages = GpuPages::new(gpu, shape)?;
        let mut lengths = reserve(batch)?;
        lengths.resize(batch, 0);
        Ok(Self {
            pages,
            lengths,
            capacity,
        })
    }

    /// Records that tokens are added to one row.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, `seq` may be 0
    /// - `v`: `[kv_heads, seq, value_dim]`
    /// - returns: the slots of the new tokens, which say what the kernels refused ([`GpuSlots::check`]): never anything but from quantized pages
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Row`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`], [`KvCacheError::Full`],
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
        self.len(row)?;
        let [k_shape, v_shape] = [axes("k", k)?, axes("v", v)?];
        token(self.pages.shape()).check(k_shape, v_shape)?;
        self.write(recorder, row..row + 1, k_shape[1], k, v)
    }

    /// Records that as many tokens are added to every row; their lengths may differ.
    ///
    /// # Shapes
    ///
    /// - `k`: `[batch, kv_heads, seq, head_dim]`, `seq` may be 0
    /// - `v`: `[batch, kv_heads, seq, value_dim]`
    /// - returns: as [`append`](Self::append)
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Batch`], and those of [`append`](Self::append). [`KvCacheError::Full`] names the first row without room: then no row has
    /// changed.
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
        rows: std::ops::Range<usize>,
        seq: usize,
        k: &GpuTensor<f32>,
        v: &GpuTensor<f32>,
    ) -> Result<GpuSlots, GpuKvCacheError> {
        let capacity = self.capacity;
        let mut slots = reserve(rows.len().saturating_mul(seq))?;
        for row in rows.clone() {
            let len = self.lengths[row];
            if seq > capacity - len {
                return Err(KvCacheError::Full {
                    row,
                    len,
                    seq,
                    capacity,
                }
                .into());
            }
            slots.extend((len..len + seq).map(|token| word(row * capacity + token)));
        }
        let slots = GpuSlots::of_list(recorder.gpu(), self.pages.shape(), &slots, true)?;
        self.pages.write(recorder, &slots, k, v)?;
        self.lengths[rows].iter_mut().for_each(|len| *len += seq);
        Ok(slots)
    }

    /// Records a copy of the keys and values of one row, widened.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, len, head_dim]` and `[kv_heads, len, value_dim]`
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
        let len = self.len(row)?;
        let mut slots = reserve(len)?;
        slots.extend((0..len).map(|token| word(row * self.capacity + token)));
        let slots = GpuSlots::of_list(recorder.gpu(), self.pages.shape(), &slots, false)?;
        self.pages.gather(recorder, &slots)
    }

    /// Records that every row `i` becomes what row `rows[i]` was: the survivors of a beam search.
    ///
    /// Rows that stay are not copied. If a row is both read and written, all are copied twice, by way of scratch memory.
    ///
    /// # Shapes
    ///
    /// - `rows`: `[batch]`; a row may be named often or never
    ///
    /// # Errors
    ///
    /// [`KvCacheError::ReorderLen`], [`KvCacheError::Row`], [`GpuKvCacheError::Gpu`] if there is no room for the scratch memory.
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
        let mut lengths = reserve(rows.len())?;
        for &row in rows {
            lengths.push(self.len(row)?);
        }
        record_rows(recorder, &self.pages, rows, &lengths)?;
        self.lengths = lengths;
        Ok(())
    }

    /// What attention's kernels for pages ask for: each row is its own only page.
    ///
    /// # Shapes
    ///
    /// - returns: `block_table` `[batch, 1]` and `lengths` `[batch]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Allocation`], [`GpuKvCacheError::Gpu`].
    pub fn block_table(&self) -> Result<(GpuTensor<u32>, GpuTensor<u32>), GpuKvCacheError> {
        let gpu = self.pages.k().gpu();
        let (mut table, mut lengths) = (reserve(self.batch())?, reserve(self.batch())?);
        table.extend((0..self.batch()).map(word));
        lengths.extend(self.lengths.iter().copied().map(word));
        Ok((
            gpu.upload_slice(&[self.batch(), 1], &table)?,
            gpu.upload_slice(&[self.batch()], &lengths)?,
        ))
    }

    /// The memory, a page of `capacity` tokens (of one, if that is 0) for each row.
    #[must_use]
    pub const fn pages(&self) -> &GpuPages<E> {
        &self.pages
    }

    /// Keeps the first `len` tokens of one row, as after a rejected guess. Nothing is recorded.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], and [`KvCacheError::CropLen`] if the row holds fewer than `len`.
    pub fn crop(&mut self, row: usize, len: usize) -> Result<(), GpuKvCacheError> {
        let old = self.len(row)?;
        if len > old {
            return Err(KvCacheError::CropLen {
                row,
                len: old,
                got: len,
            }
            .into());
        }
        self.lengths[row] = len;
        Ok(())
    }

    /// Forgets all tokens of all rows; the memory stays.
    pub fn clear(&mut self) {
        self.lengths.fill(0);
    }

    /// Tokens that one row holds.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn len(&self, row: usize) -> Result<usize, KvCacheError> {
        let batch = self.batch();
        let len = self.lengths.get(row).copied();
        len.ok_or(KvCacheError::Row { row, batch })
    }

    /// Tokens that each row holds.
    #[must_use]
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// True if no row holds a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.iter().all(|&len| len == 0)
    }

    /// Number of rows.
    #[must_use]
    pub const fn batch(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens that a row can hold.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }
}

pub(super) fn token(shape: PageShape) -> TokenShape {
    TokenShape {
        n_kv_heads: shape.n_kv_heads,
        head_dim: shape.head_dim,
        value_dim: shape.value_dim,
    }
}

/// The shape of one row.
pub(super) fn axes(name: &'static str, x: &GpuTensor<f32>) -> Result<[usize; 3], GpuKvCacheError> {
    let got = x.shape();
    <[usize; 3]>::try_from(got).map_err(|_| GpuKvCacheError::Rank {
        name,
        expected: "3",
        got: got.to_vec(),
    })
}

/// The shapes of one row, of keys and values for all of a batch.
pub(super) fn of_rows(
    batch: usize,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
) -> Result<[[usize; 3]; 2], GpuKvCacheError> {
    let axes = |name, x: &GpuTensor<f32>| match *x.shape() {
        [rows, heads, seq, features] => Ok((rows, [heads, seq, features])),
        _ => Err(GpuKvCacheError::Rank {
            name,
            expected: "4",
            got: x.shape().to_vec(),
        }),
    };
    let ((keys, k_shape), (values, v_shape)) = (axes("k", k)?, axes("v", v)?);
    if keys != batch || values != batch {
        return Err(KvCacheError::Batch {
            expected: batch,
            keys,
            values,
        }
        .into());
    }
    Ok([k_shape, v_shape])
}

/// Records that the first places of each page become those of another, where it is not the same one.
pub(super) fn record_rows<E: GpuPageElement>(
    recorder: &mut Recorder,
    pages: &GpuPages<E>,
    sources: &[usize],
    lengths: &[usize],
) -> Result<(), GpuKvCacheError> {
    let shape = pages.shape();
    let mut runs = reserve(sources.len())?;
    for (row, (&source, &n)) in sources.iter().zip(lengths).enumerate() {
        let [from, to] = [source, row].map(|row| row * shape.page_size);
        runs.push(Run { from, to, n });
    }
    Plan::new(recorder.gpu(), shape, &runs)?.record(recorder, pages)
}
