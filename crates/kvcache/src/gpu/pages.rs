//! The pages of one layer on the device.

use llm_gpu::{Access, Binding, Gpu, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};

use super::element::GpuPageElement;
use super::int8::CHECK_NUMBERS;
use super::slots::{GpuSlots, n_slots};
use super::{GpuKvCacheError, WORKGROUP_SIZE, word};
use crate::KvCacheError;
use crate::paged::PageShape;

llm_gpu::params! {
    /// The parameter block of the kernels that write and read tokens.
    pub(super) struct PlacesParams {
        n_items: u32,
        n_heads: u32,
        seq: u32,
        features: u32,
        page_size: u32,
        n_slots: u32,
        row_items: u32,
        part: u32,
    }
}

/// Where tokens lie.
pub(super) const PLACES: Snippet = Snippet {
    name: "places",
    source: include_str!("places.wgsl"),
};

/// Whether they may be written.
pub(super) const WRITE: Snippet = Snippet {
    name: "write",
    source: include_str!("write.wgsl"),
};

/// Parts of words.
pub(super) const BYTE_MASK: Snippet = Snippet {
    name: "byte_mask",
    source: include_str!("byte_mask.wgsl"),
};

pub(super) static CLEAR_PLACES: Kernel = Kernel {
    name: "clear_places",
    source: include_str!("clear_places.wgsl"),
    snippets: &[snippet::LINEAR, PLACES, WRITE, BYTE_MASK],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<PlacesParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// The keys and values of one layer in pages of a pool, on the device, as `llm_attention::gpu::paged` reads them.
///
/// Which sequence holds which page is the business of a [`PageTable`](crate::paged::PageTable) on the host, which says what to copy here;
/// [`GpuSlots`] say where tokens go. Fresh pages are zeros.
///
/// # Shapes
///
/// - keys: `[n_pages, kv_heads, page_size, head_dim]`, row-major; `f16` and `bf16` two in a word, `i8` as a tensor of words with four in each,
///   [`Int4`](super::Int4) with eight
/// - values: `[n_pages, kv_heads, page_size, value_dim]`
/// - scales of `i8`, steps and least values of `Int4`: `[2, n_pages, kv_heads, page_size]`, those of the keys, then those of the values
///
/// # Example
///
/// ```
/// use llm_kvcache::gpu::{GpuPages, GpuSlots};
/// use llm_kvcache::paged::{PageShape, PageTable};
/// use ndarray::{Array3, s};
///
/// # let Some(gpu) = llm_kvcache::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// // 8 pages of 4 tokens, 2 key-value heads of 3 features.
/// let shape = PageShape { n_pages: 8, n_kv_heads: 2, page_size: 4, head_dim: 3, value_dim: 3 };
/// let mut table = PageTable::new(8, 4)?;
/// let pages = GpuPages::<f32>::new(&gpu, shape)?;
/// let a = table.create(b"")?;
/// table.grow(&[(a, 6)])?;
/// let k = Array3::from_shape_fn((2, 6, 3), |(h, t, d)| (100 * h + 10 * t + d) as f32);
/// let on_device = gpu.upload(&k)?; // a model has them there
///
/// let mut recorder = gpu.recorder();
/// let new = GpuSlots::for_writing(&gpu, shape, &table, &[(a, 0..6)])?;
/// pages.write(&mut recorder, &new, &on_device, &on_device)?;
/// let some = GpuSlots::for_reading(&gpu, shape, &table, &[(a, 3..6)])?;
/// let (keys, _) = pages.gather(&mut recorder, &some)?;
/// recorder.submit()?;
/// assert_eq!(keys.download_blocking()?, k.slice(s![.., 3..6, ..]).into_dyn());
/// # Ok::<(), llm_kvcache::gpu::GpuKvCacheError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GpuPages<E: GpuPageElement> {
    pub(super) k: GpuTensor<E::Word>,
    pub(super) v: GpuTensor<E::Word>,
    /// `[2, n_pages, kv_heads, page_size]`, or nothing
    pub(super) scales: GpuTensor<E::Scale>,
    shape: PageShape,
}

/// Gathered keys and values, `[kv_heads, n, head_dim]` and `[kv_heads, n, value_dim]`.
pub type GpuKeysValues = (GpuTensor<f32>, GpuTensor<f32>);

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Keys,
    Values,
}

impl<E: GpuPageElement> GpuPages<E> {
    /// Pages of zeros.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::PageSize`] if `page_size` is 0.
    /// - [`KvCacheError::Size`] if pages and places cannot be counted in 32 bits, or bytes not at all.
    /// - [`GpuKvCacheError::Gpu`] if the device cannot hold or bind the keys or the values.
    pub fn new(gpu: &Gpu, shape: PageShape) -> Result<Self, GpuKvCacheError> {
        n_slots(shape)?;
        let scales: &[usize] = if E::HAS_SCALES {
            &[2, shape.n_pages, shape.n_kv_heads, shape.page_size]
        } else {
            &[0]
        };
        Ok(Self {
            k: zeros::<E>(gpu, shape, shape.head_dim)?,
            v: zeros::<E>(gpu, shape, shape.value_dim)?,
            scales: gpu.zeros(scales)?,
            shape,
        })
    }

    /// The keys of all pages; integers as words.
    #[must_use]
    pub const fn k(&self) -> &GpuTensor<E::Word> {
        &self.k
    }

    /// The values of all pages; integers as words.
    #[must_use]
    pub const fn v(&self) -> &GpuTensor<E::Word> {
        &self.v
    }

    /// The sizes.
    #[must_use]
    pub const fn shape(&self) -> PageShape {
        self.shape
    }

    /// Records that tokens are written.
    ///
    /// # Shapes
    ///
    /// - `slots`: `n` tokens
    /// - `k`: `[kv_heads, n, head_dim]`, or `[batch, kv_heads, seq, head_dim]` with `n = batch * seq`
    /// - `v`: the same with `value_dim`
    ///
    /// # Errors
    ///
    /// - [`GpuKvCacheError::Pool`] if the slots are of a pool of other sizes, [`GpuKvCacheError::ReadOnly`] if they were made for reading.
    /// - [`GpuKvCacheError::Rank`], [`GpuKvCacheError::Shape`] for keys and values.
    /// - [`GpuKvCacheError::Gpu`] if tensors are of different devices.
    ///
    /// What the kernels find is in the slots: see [`GpuSlots::check`].
    ///
    /// # Precision
    ///
    /// The bits of the CPU: those of [`FloatPages`](crate::paged::FloatPages) after `f16::from_f32` or `bf16::from_f32`, and those of
    /// [`Int8Pages`](crate::paged::Int8Pages) and [`Int4Pages`](crate::paged::Int4Pages).
    pub fn write(
        &self,
        recorder: &mut Recorder,
        slots: &GpuSlots,
        k: &GpuTensor<f32>,
        v: &GpuTensor<f32>,
    ) -> Result<(), GpuKvCacheError> {
        self.check_slots(slots)?;
        slots.check_writable()?;
        let k_rows = self.rows("k", k, slots, self.shape.head_dim)?;
        let v_rows = self.rows("v", v, slots, self.shape.value_dim)?;
        if k.shape().len() != v.shape().len() || k_rows != v_rows {
            let mut expected = k.shape().to_vec();
            if let Some(last) = expected.last_mut() {
                *last = self.shape.value_dim;
            }
            return Err(GpuKvCacheError::Shape {
                name: "v",
                expected,
                got: v.shape().to_vec(),
            });
        }
        if let Some(limit) = E::LIMIT {
            // Both before either is written.
            self.record_check(recorder, slots, k, Part::Keys, k_rows, limit)?;
            self.record_check(recorder, slots, v, Part::Values, v_rows, limit)?;
        }
        self.record_write(recorder, slots, k, Part::Keys, k_rows)?;
        self.record_write(recorder, slots, v, Part::Values, v_rows)
    }

    fn record_check(
        &self,
        recorder: &mut Recorder,
        slots: &GpuSlots,
        x: &GpuTensor<f32>,
        part: Part,
        [_, seq]: [usize; 2],
        limit: f32,
    ) -> Result<(), GpuKvCacheError> {
        let (_, features) = self.part(part);
        let mut params = self.params(seq, features, x.len(), 0, part);
        params.row_items = limit.to_bits();
        let bindings = [slots.tensor().read(), x.read(), slots.status().write()];
        let grid = Grid::linear(x.len(), WORKGROUP_SIZE)?;
        recorder.dispatch(&CHECK_NUMBERS, &[], &params, &bindings, grid)?;
        Ok(())
    }

    fn record_write(
        &self,
        recorder: &mut Recorder,
        slots: &GpuSlots,
        x: &GpuTensor<f32>,
        part: Part,
        [_, seq]: [usize; 2],
    ) -> Result<(), GpuKvCacheError> {
        let (pages, features) = self.part(part);
        let row_items = match E::row_bytes(features) {
            _ if E::IS_BY_ROWS => 1,
            // Rows of whole words, or of an odd number of halves.
            bytes => bytes.unwrap_or(0).div_ceil(4),
        };
        let n_items = slots.len() * self.shape.n_kv_heads * row_items;
        let params = self.params(seq, features, n_items, row_items, part);
        let grid = Grid::linear(n_items, if E::IS_BY_ROWS { 1 } else { WORKGROUP_SIZE })?;
        let mut bindings = vec![
            slots.tensor().read(),
            slots.status().read(),
            x.read(),
            pages.write(),
        ];
        bindings.extend(E::HAS_SCALES.then(|| self.scales.write()));
        recorder.dispatch(E::WRITE, &[], &params, &bindings, grid)?;
        Ok(())
    }

    /// Records that places are set to zero: those of tokens that a table has made room for, and that are written later.
    ///
    /// # Errors
    ///
    /// [`GpuKvCacheError::Pool`], [`GpuKvCacheError::ReadOnly`], [`GpuKvCacheError::Gpu`] as for [`write`](Self::write).
    pub fn clear(&self, recorder: &mut Recorder, slots: &GpuSlots) -> Result<(), GpuKvCacheError> {
        self.check_slots(slots)?;
        slots.check_writable()?;
        for (array, row_bytes, n_parts) in self.arrays() {
            let row_items = words_of_run(row_bytes, 1);
            let n_items = slots.len() * self.shape.n_kv_heads * row_items;
            let bindings = [slots.tensor().read(), slots.status().read(), array];
            for part in [Part::Keys, Part::Values].into_iter().take(n_parts) {
                let params = self.params(slots.len(), row_bytes, n_items, row_items, part);
                let grid = Grid::linear(n_items, WORKGROUP_SIZE)?;
                recorder.dispatch(&CLEAR_PLACES, &[], &params, &bindings, grid)?;
            }
        }
        Ok(())
    }

    /// Records a copy of the keys and values of tokens, widened.
    ///
    /// Tokens without a place are zeros.
    ///
    /// # Shapes
    ///
    /// - `slots`: `n` tokens
    /// - returns: `[kv_heads, n, head_dim]` and `[kv_heads, n, value_dim]`
    ///
    /// # Errors
    ///
    /// [`GpuKvCacheError::Pool`] if the slots are of a pool of other sizes; [`GpuKvCacheError::Gpu`] if the device has no room.
    ///
    /// # Precision
    ///
    /// The bits of the CPU.
    pub fn gather(
        &self,
        recorder: &mut Recorder,
        slots: &GpuSlots,
    ) -> Result<GpuKeysValues, GpuKvCacheError> {
        let (n, heads) = (slots.len(), self.shape.n_kv_heads);
        Ok((
            self.record_gather(recorder, slots, Part::Keys, n, |d| vec![heads, n, d])?,
            self.record_gather(recorder, slots, Part::Values, n, |d| vec![heads, n, d])?,
        ))
    }

    /// [`gather`](Self::gather) for rows of a batch that have as many tokens each.
    ///
    /// # Shapes
    ///
    /// - `slots`: `n = batch * seq` tokens, those of a row one behind the other
    /// - returns: `[batch, kv_heads, seq, head_dim]` and `[batch, kv_heads, seq, value_dim]`
    ///
    /// # Errors
    ///
    /// [`GpuKvCacheError::Batch`] if the tokens do not fill whole rows, and those of [`gather`](Self::gather).
    ///
    /// # Precision
    ///
    /// As [`gather`](Self::gather).
    pub fn gather_batch(
        &self,
        recorder: &mut Recorder,
        slots: &GpuSlots,
        batch: usize,
    ) -> Result<GpuKeysValues, GpuKvCacheError> {
        let (n, heads) = (slots.len(), self.shape.n_kv_heads);
        if n.checked_rem(batch).unwrap_or(n) != 0 {
            return Err(GpuKvCacheError::Batch { batch, tokens: n });
        }
        let seq = n.checked_div(batch).unwrap_or(0);
        let shape = |features| vec![batch, heads, seq, features];
        Ok((
            self.record_gather(recorder, slots, Part::Keys, seq, shape)?,
            self.record_gather(recorder, slots, Part::Values, seq, shape)?,
        ))
    }

    fn record_gather(
        &self,
        recorder: &mut Recorder,
        slots: &GpuSlots,
        part: Part,
        seq: usize,
        shape: impl Fn(usize) -> Vec<usize>,
    ) -> Result<GpuTensor<f32>, GpuKvCacheError> {
        self.check_slots(slots)?;
        let (pages, features) = self.part(part);
        let out = recorder.output::<f32>(&shape(features))?;
        let n_items = out.len();
        let params = self.params(seq, features, n_items, features, part);
        let mut bindings = vec![slots.tensor().read(), pages.read(), out.write()];
        bindings.extend(E::HAS_SCALES.then(|| self.scales.read()));
        let grid = Grid::linear(n_items, WORKGROUP_SIZE)?;
        recorder.dispatch(E::GATHER, &[], &params, &bindings, grid)?;
        Ok(out)
    }

    /// Each tensor with the bytes of a token and head, and how many arrays lie in it one behind the other.
    pub(super) fn arrays(&self) -> Vec<(Binding<'_>, usize, usize)> {
        let bytes = |features| E::row_bytes(features).unwrap_or(0); // checked when the pages were made
        let mut arrays = vec![
            (self.k.write(), bytes(self.shape.head_dim), 1),
            (self.v.write(), bytes(self.shape.value_dim), 1),
        ];
        if E::HAS_SCALES {
            arrays.push((self.scales.write(), size_of::<E::Scale>(), 2));
        }
        arrays
    }

    /// Array number `index` of [`arrays`](Self::arrays), for a kernel that only reads it.
    pub(super) fn array_to_read(&self, index: usize) -> Binding<'_> {
        match index {
            0 => self.k.read(),
            1 => self.v.read(),
            _ => self.scales.read(),
        }
    }

    fn part(&self, part: Part) -> (&GpuTensor<E::Word>, usize) {
        match part {
            Part::Keys => (&self.k, self.shape.head_dim),
            Part::Values => (&self.v, self.shape.value_dim),
        }
    }

    fn params(
        &self,
        seq: usize,
        features: usize,
        n_items: usize,
        row_items: usize,
        part: Part,
    ) -> PlacesParams {
        PlacesParams {
            n_items: word(n_items),
            n_heads: word(self.shape.n_kv_heads),
            seq: word(seq),
            features: word(features),
            page_size: word(self.shape.page_size),
            n_slots: word(self.shape.n_pages * self.shape.page_size),
            row_items: word(row_items),
            part: u32::from(part == Part::Values),
        }
    }

    fn check_slots(&self, slots: &GpuSlots) -> Result<(), GpuKvCacheError> {
        if slots.shape() != self.shape {
            return Err(GpuKvCacheError::Pool {
                expected: self.shape,
                got: slots.shape(),
            });
        }
        Ok(())
    }

    /// Rows of the batch and tokens of each, of new keys or values.
    fn rows(
        &self,
        name: &'static str,
        x: &GpuTensor<f32>,
        slots: &GpuSlots,
        features: usize,
    ) -> Result<[usize; 2], GpuKvCacheError> {
        let (heads, n) = (self.shape.n_kv_heads, slots.len());
        let got = x.shape().to_vec();
        let (expected, rows) = match *x.shape() {
            [_, _, _] => (vec![heads, n, features], [1, n]),
            [batch, _, seq, _] if batch.checked_mul(seq) == Some(n) => {
                (vec![batch, heads, seq, features], [batch, seq])
            }
            [batch, _, _, _] => {
                let seq = n.checked_div(batch).unwrap_or(0);
                let expected = vec![batch, heads, seq, features];
                return Err(GpuKvCacheError::Shape {
                    name,
                    expected,
                    got,
                });
            }
            _ => {
                return Err(GpuKvCacheError::Rank {
                    name,
                    expected: "3 or 4",
                    got,
                });
            }
        };
        if got != expected {
            return Err(GpuKvCacheError::Shape {
                name,
                expected,
                got,
            });
        }
        Ok(rows)
    }
}

/// Words that a run of so many rows has a part of, wherever it begins.
pub(super) fn words_of_run(row_bytes: usize, n: usize) -> usize {
    let bytes = row_bytes * n;
    match row_bytes {
        0 => 0,
        // All rows have this length, so that all of them begin with a word.
        row_bytes if row_bytes.is_multiple_of(4) => bytes / 4,
        _ => (bytes + 2) / 4 + 1,
    }
}

fn zeros<E: GpuPageElement>(
    gpu: &Gpu,
    shape: PageShape,
    features: usize,
) -> Result<GpuTensor<E::Word>, GpuKvCacheError> {
    let pages = [shape.n_pages, shape.n_kv_heads, shape.page_size, features];
    let too_big = KvCacheError::Size {
        axes: pages,
        element_bytes: size_of::<E>().max(1),
    };
    let bytes = E::row_bytes(features)
        .and_then(|bytes| bytes.checked_mul(shape.n_kv_heads))
        .and_then(|bytes| bytes.checked_mul(shape.n_pages * shape.page_size))
        .ok_or(too_big)?;
    Ok(gpu.zeros(&E::tensor_shape(pages, bytes))?)
}
