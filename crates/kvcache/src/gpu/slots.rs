//! Where the tokens of a step lie.

use std::collections::BTreeSet;
use std::ops::Range;

use llm_gpu::{Access, Gpu, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{GpuKvCacheError, WORKGROUP_SIZE, expect_shape, word};
use crate::error::Largest;
use crate::memory::reserve;
use crate::paged::{PageShape, PageTable, SequenceId};
use crate::{KvCacheError, affine};

llm_gpu::params! {
    /// The parameter block of `check_slots.wgsl`.
    pub(super) struct CheckSlotsParams {
        n_tokens: u32,
        n_slots: u32,
        pad0: u32,
        pad1: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `table_slots.wgsl`.
    pub(super) struct TableSlotsParams {
        n_tokens: u32,
        seq: u32,
        max_pages: u32,
        page_size: u32,
        n_pages: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

pub(super) static CHECK_SLOTS: Kernel = Kernel {
    name: "check_slots",
    source: include_str!("check_slots.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<CheckSlotsParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static TABLE_SLOTS: Kernel = Kernel {
    name: "table_slots",
    source: include_str!("table_slots.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    params_size: size_of::<TableSlotsParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// A slot of no token: what belongs to it is not written, and read as zeros.
pub const NO_SLOT: u32 = u32::MAX;

/// Words of a status, see `write.wgsl`; the last one is the largest number that was allowed.
const STATUS_WORDS: usize = 4;

/// Where tokens lie in the pages of a pool, on the device: a slot, `page * page_size + place`, for each; and whether something was refused
/// that was to be written there.
///
/// Made once for a step and used for all its layers. A kernel cannot return an error. It notes what it finds here, and from then on nothing is
/// written to these slots: neither the call that found it nor a later one writes anything. [`check`](Self::check) waits for the verdict. Slots that the
/// host made ([`for_writing`](Self::for_writing)) with pages of floating-point numbers cannot be refused, so there is no need to ask.
///
/// What earlier layers wrote stays where it is. Whoever gets an error crops the sequences back to what they were: then nobody reads it.
///
/// # Example
///
/// ```
/// use llm_kvcache::gpu::{GpuPages, GpuSlots};
/// use llm_kvcache::paged::{PageShape, PageTable};
/// use ndarray::Array3;
///
/// # let Some(gpu) = llm_kvcache::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let shape = PageShape { n_pages: 4, n_kv_heads: 1, page_size: 2, head_dim: 3, value_dim: 3 };
/// let mut table = PageTable::new(4, 2)?;
/// let pages = GpuPages::<f32>::new(&gpu, shape)?;
/// let id = table.create(b"")?;
/// table.grow(&[(id, 3)])?; // nothing is shared, so nothing is to be copied
/// let slots = GpuSlots::for_writing(&gpu, shape, &table, &[(id, 0..3)])?;
/// let k = gpu.upload(&Array3::<f32>::ones((1, 3, 3)))?; // [kv_heads, seq, head_dim]
/// let mut recorder = gpu.recorder();
/// pages.write(&mut recorder, &slots, &k, &k)?;
/// recorder.submit()?;
/// slots.check_blocking()?;
/// # Ok::<(), llm_kvcache::gpu::GpuKvCacheError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GpuSlots {
    slots: GpuTensor<u32>,  // [n_tokens]
    status: GpuTensor<u32>, // [STATUS_WORDS]
    shape: PageShape,
    source: Source,
    is_for_writing: bool,
}

/// Who made the slots.
#[derive(Clone, Copy, Debug)]
enum Source {
    Slots,
    /// From a table, for so many tokens of each row.
    Table {
        seq: usize,
    },
}

impl GpuSlots {
    /// The slots of tokens that will be written, one sequence behind the other.
    ///
    /// # Shapes
    ///
    /// - `tokens`: sequences with the tokens of each, which the table must have room for ([`PageTable::grow`] makes it)
    ///
    /// # Errors
    ///
    /// - [`GpuKvCacheError::Pool`] if the table has other pages than `shape`.
    /// - Those of [`PageTable::check_write`]; [`KvCacheError::Repeated`] if a sequence is named twice.
    /// - [`KvCacheError::Size`] if slots cannot be counted in 32 bits, [`KvCacheError::Allocation`].
    /// - [`GpuKvCacheError::Gpu`] if the device has no room.
    pub fn for_writing(
        gpu: &Gpu,
        shape: PageShape,
        table: &PageTable,
        tokens: &[(SequenceId, Range<usize>)],
    ) -> Result<Self, GpuKvCacheError> {
        let mut named = BTreeSet::new();
        for (id, range) in tokens {
            table.check_write(*id, range.start, range.end)?;
            if !named.insert(*id) {
                return Err(KvCacheError::Repeated { id: id.number() }.into());
            }
        }
        Self::of_table(gpu, shape, table, tokens, true)
    }

    /// The slots of tokens that will be read, one sequence behind the other. They may lie in pages that are shared.
    ///
    /// # Shapes
    ///
    /// - `tokens`: sequences with the tokens of each; a sequence may be named often
    ///
    /// # Errors
    ///
    /// - [`GpuKvCacheError::Pool`] if the table has other pages than `shape`.
    /// - [`KvCacheError::Sequence`], [`KvCacheError::ReadRange`] (its row is the place in the list) if there are no such tokens.
    /// - [`KvCacheError::Size`], [`KvCacheError::Allocation`], [`GpuKvCacheError::Gpu`] as in [`for_writing`](Self::for_writing).
    pub fn for_reading(
        gpu: &Gpu,
        shape: PageShape,
        table: &PageTable,
        tokens: &[(SequenceId, Range<usize>)],
    ) -> Result<Self, GpuKvCacheError> {
        for (row, (id, range)) in tokens.iter().enumerate() {
            let (len, start, end) = (table.len(*id)?, range.start, range.end);
            if start > end || end > len {
                return Err(KvCacheError::ReadRange {
                    row,
                    len,
                    start,
                    end,
                }
                .into());
            }
        }
        Self::of_table(gpu, shape, table, tokens, false)
    }

    fn of_table(
        gpu: &Gpu,
        shape: PageShape,
        table: &PageTable,
        tokens: &[(SequenceId, Range<usize>)],
        is_for_writing: bool,
    ) -> Result<Self, GpuKvCacheError> {
        check_table(shape, table)?;
        let page_size = shape.page_size;
        let n = tokens
            .iter()
            .fold(0_usize, |n, (_, range)| n.saturating_add(range.len()));
        let mut slots: Vec<u32> = reserve(n)?;
        for (id, range) in tokens {
            let pages = table.pages(*id)?;
            slots.extend(range.clone().map(|token| {
                let page = pages[token / page_size] as usize;
                word(page * page_size + token % page_size)
            }));
        }
        Self::of_list(gpu, shape, &slots, is_for_writing)
    }

    /// Slots that were looked at.
    pub(super) fn of_list(
        gpu: &Gpu,
        shape: PageShape,
        slots: &[u32],
        is_for_writing: bool,
    ) -> Result<Self, GpuKvCacheError> {
        n_slots(shape)?;
        Ok(Self {
            slots: gpu.upload_slice(&[slots.len()], slots)?,
            status: gpu.zeros(&[STATUS_WORDS])?,
            shape,
            source: Source::Slots,
            is_for_writing,
        })
    }

    /// Slots that the device made, in the order of the tokens, whatever the shape: a slot mapping. [`NO_SLOT`] is for padding.
    ///
    /// Records a look at them: if one is not in the pool, nothing is written to any of them. It is the caller's part that each slot
    /// is there once, and that its page is not shared.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::PageSize`], [`KvCacheError::Size`] if the pool has no slots, or more than can be counted in 32 bits.
    /// - [`GpuKvCacheError::Gpu`] if the device has no room, or the slots are of another device.
    pub fn on_device(
        recorder: &mut Recorder,
        shape: PageShape,
        slots: &GpuTensor<u32>,
    ) -> Result<Self, GpuKvCacheError> {
        let n_slots = n_slots(shape)?;
        let slots = slots.reshape(&[slots.len()])?;
        let status = recorder.gpu().zeros(&[STATUS_WORDS])?;
        let params = CheckSlotsParams {
            n_tokens: word(slots.len()),
            n_slots: word(n_slots),
            pad0: 0,
            pad1: 0,
        };
        let grid = Grid::linear(slots.len(), WORKGROUP_SIZE)?;
        let bindings = [slots.read(), status.write()];
        recorder.dispatch(&CHECK_SLOTS, &[], &params, &bindings, grid)?;
        Ok(Self {
            slots,
            status,
            shape,
            source: Source::Slots,
            is_for_writing: true,
        })
    }

    /// The slots of the last `seq` tokens of each sequence, by the table and the lengths that attention reads.
    ///
    /// ```text
    /// p = lengths[b] - seq + t;   slot[b, t] = block_table[b, p / page_size] page_size + p % page_size;   none where p < 0
    /// ```
    ///
    /// The lengths count the tokens already. Table and lengths are on the device and not checked by the host: if a token has no page
    /// of the pool, nothing is written to any of them.
    ///
    /// # Shapes
    ///
    /// - `block_table`: `[batch, max_pages]`
    /// - `lengths`: `[batch]`
    ///
    /// # Errors
    ///
    /// - [`GpuKvCacheError::Rank`], [`GpuKvCacheError::Shape`] for the tensors.
    /// - Those of [`on_device`](Self::on_device).
    ///
    /// # Example
    ///
    /// ```
    /// use llm_kvcache::gpu::{GpuPages, GpuSlots};
    /// use llm_kvcache::paged::PageShape;
    /// use ndarray::{Array4, array};
    ///
    /// # let Some(gpu) = llm_kvcache::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
    /// let shape = PageShape { n_pages: 4, n_kv_heads: 1, page_size: 2, head_dim: 1, value_dim: 1 };
    /// let pages = GpuPages::<f32>::new(&gpu, shape)?;
    /// let (table, lengths) = (gpu.upload(&array![[3_u32, 1], [0, 0]])?, gpu.upload(&array![3_u32, 1])?);
    /// let k = gpu.upload(&Array4::<f32>::from_elem((2, 1, 1, 1), 7.0))?; // a decode step: [batch, kv_heads, 1, head_dim]
    /// let mut recorder = gpu.recorder();
    /// let slots = GpuSlots::of_block_table(&mut recorder, shape, &table, &lengths, 1)?;
    /// pages.write(&mut recorder, &slots, &k, &k)?; // token 2 of the first sequence, token 0 of the second
    /// recorder.submit()?;
    /// slots.check_blocking()?;
    /// let got = pages.k().download_blocking()?;
    /// assert_eq!((got[[1, 0, 0, 0]], got[[0, 0, 0, 0]]), (7.0, 7.0));
    /// # Ok::<(), llm_kvcache::gpu::GpuKvCacheError>(())
    /// ```
    pub fn of_block_table(
        recorder: &mut Recorder,
        shape: PageShape,
        block_table: &GpuTensor<u32>,
        lengths: &GpuTensor<u32>,
        seq: usize,
    ) -> Result<Self, GpuKvCacheError> {
        n_slots(shape)?;
        let &[batch, max_pages] = block_table.shape() else {
            return Err(GpuKvCacheError::Rank {
                name: "block_table",
                expected: "2",
                got: block_table.shape().to_vec(),
            });
        };
        expect_shape("lengths", lengths, &[batch])?;
        let n = batch.saturating_mul(seq);
        let slots = recorder.output::<u32>(&[n])?;
        let status = recorder.gpu().zeros(&[STATUS_WORDS])?;
        let params = TableSlotsParams {
            n_tokens: word(n),
            seq: word(seq),
            max_pages: word(max_pages),
            page_size: word(shape.page_size),
            n_pages: word(shape.n_pages),
            pad0: 0,
            pad1: 0,
            pad2: 0,
        };
        let bindings = [
            block_table.read(),
            lengths.read(),
            slots.write(),
            status.write(),
        ];
        let grid = Grid::linear(n, WORKGROUP_SIZE)?;
        recorder.dispatch(&TABLE_SLOTS, &[], &params, &bindings, grid)?;
        Ok(Self {
            slots,
            status,
            shape,
            source: Source::Table { seq },
            is_for_writing: true,
        })
    }

    /// The slots, `[n_tokens]`.
    #[must_use]
    pub const fn tensor(&self) -> &GpuTensor<u32> {
        &self.slots
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if there is no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The sizes of the pool.
    #[must_use]
    pub const fn shape(&self) -> PageShape {
        self.shape
    }

    pub(super) const fn status(&self) -> &GpuTensor<u32> {
        &self.status
    }

    pub(super) fn check_writable(&self) -> Result<(), GpuKvCacheError> {
        if self.is_for_writing {
            Ok(())
        } else {
            Err(GpuKvCacheError::ReadOnly)
        }
    }

    /// Waits for what the kernels found.
    ///
    /// Of several things a slot comes before a key, and that before a value; of several keys or values the one of the first token, then of the
    /// first head, then the first feature, over all layers that were written.
    ///
    /// # Errors
    ///
    /// - [`GpuKvCacheError::Slot`], [`GpuKvCacheError::TablePage`] if a token has no place in the pool.
    /// - [`KvCacheError::NotQuantizable`] as the CPU has it, with the token as its place in these slots.
    /// - [`GpuKvCacheError::Gpu`] as [`GpuTensor::download`].
    pub async fn check(&self) -> Result<(), GpuKvCacheError> {
        let status = self.status.download().await?;
        let status: Vec<u32> = status.into_iter().collect();
        if status[0] == 0 {
            return self.refusal(&status, 0);
        }
        let at = (u32::MAX - status[0]) as usize;
        let slots = self.slots.download().await?;
        self.refusal(&status, slots.iter().nth(at).copied().unwrap_or(NO_SLOT))
    }

    /// [`check`](Self::check), and waits for it.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn check_blocking(&self) -> Result<(), GpuKvCacheError> {
        let status: Vec<u32> = self.status.download_blocking()?.into_iter().collect();
        if status[0] == 0 {
            return self.refusal(&status, 0);
        }
        let at = (u32::MAX - status[0]) as usize;
        let slots = self.slots.download_blocking()?;
        self.refusal(&status, slots.iter().nth(at).copied().unwrap_or(NO_SLOT))
    }

    fn refusal(&self, status: &[u32], got: u32) -> Result<(), GpuKvCacheError> {
        let of = |word: u32| (u32::MAX - word) as usize;
        let PageShape {
            n_pages,
            n_kv_heads,
            head_dim,
            value_dim,
            ..
        } = self.shape;
        if status[0] != 0 {
            let token = of(status[0]);
            return Err(match self.source {
                Source::Slots => GpuKvCacheError::Slot {
                    token,
                    n_slots: n_slots(self.shape)?,
                    got,
                },
                Source::Table { seq } => GpuKvCacheError::TablePage {
                    row: token / seq,
                    token: token % seq,
                    n_pages,
                },
            });
        }
        for (name, found, features) in [("k", status[1], head_dim), ("v", status[2], value_dim)] {
            if found != 0 {
                // Counted with the token first, so that the layout of the batch does not matter.
                let index = of(found);
                return Err(KvCacheError::NotQuantizable {
                    name,
                    max: if status[3] == affine::MOST.to_bits() {
                        Largest::F16
                    } else {
                        Largest::F32
                    },
                    head: index / features % n_kv_heads,
                    token: index / features / n_kv_heads,
                    feature: index % features,
                }
                .into());
            }
        }
        Ok(())
    }
}

/// Refuses a table of another pool.
pub(super) fn check_table(shape: PageShape, table: &PageTable) -> Result<(), GpuKvCacheError> {
    let (n_pages, page_size) = (table.n_pages(), table.page_size());
    if (n_pages, page_size) != (shape.n_pages, shape.page_size) {
        return Err(GpuKvCacheError::Pool {
            expected: shape,
            got: PageShape {
                n_pages,
                page_size,
                ..shape
            },
        });
    }
    Ok(())
}

/// Places of a pool, which are counted in 32 bits, with [`NO_SLOT`] left over.
pub(super) fn n_slots(shape: PageShape) -> Result<usize, KvCacheError> {
    let (n_pages, page_size) = (shape.n_pages, shape.page_size);
    if page_size == 0 {
        return Err(KvCacheError::PageSize);
    }
    n_pages
        .checked_mul(page_size)
        .filter(|&n| u32::try_from(n).is_ok_and(|n| n < NO_SLOT))
        .ok_or(KvCacheError::Size {
            axes: [n_pages, page_size, 1, 1],
            element_bytes: 1,
        })
}
