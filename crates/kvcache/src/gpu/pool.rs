//! The pages of all layers on the device.

use llm_gpu::{Gpu, Recorder};

use super::element::GpuPageElement;
use super::moves::{Plan, of_pages, of_tokens};
use super::{GpuKvCacheError, GpuPages};
use crate::KvCacheError;
use crate::memory::reserve;
use crate::paged::{PageCopy, PageShape, PoolConfig, TokenMove};

/// The pages of all layers of a model, which have one table.
///
/// A [`PageTable`](crate::paged::PageTable) on the host keeps the books, and whatever it says has to be copied is copied here, before anything else
/// is written.
///
/// # Example
///
/// ```
/// use llm_kvcache::gpu::{GpuPool, GpuSlots};
/// use llm_kvcache::paged::{PageTable, PoolConfig};
/// use ndarray::Array3;
///
/// # let Some(gpu) = llm_kvcache::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// // 1 layer, 8 pages of 4 tokens, 2 key-value heads of 3 features.
/// let config = PoolConfig::new(1, 8, 4, 2, 3);
/// let mut table = PageTable::new(config.n_pages, config.page_size)?;
/// let pool = GpuPool::<f32>::new(&gpu, &config)?;
/// let k = gpu.upload(&Array3::<f32>::ones((2, 6, 3)))?; // [kv_heads, seq, head_dim]
///
/// let mut recorder = gpu.recorder();
/// let prompt = table.create(b"")?;
/// table.grow(&[(prompt, 6)])?;
/// let slots = GpuSlots::for_writing(&gpu, pool.shape(), &table, &[(prompt, 0..6)])?;
/// pool.layer(0)?.write(&mut recorder, &slots, &k, &k)?;
///
/// let other = table.fork(prompt)?; // a second answer to the same prompt: no page more
/// let copies = table.grow(&[(other, 1)])?; // until it goes on: then it needs the last page for itself
/// pool.copy_pages(&mut recorder, &copies)?;
/// let token = gpu.upload(&Array3::<f32>::zeros((2, 1, 3)))?;
/// let slots = GpuSlots::for_writing(&gpu, pool.shape(), &table, &[(other, 6..7)])?;
/// pool.layer(0)?.write(&mut recorder, &slots, &token, &token)?;
///
/// let slots = GpuSlots::for_reading(&gpu, pool.shape(), &table, &[(other, 0..7)])?;
/// let (keys, _) = pool.layer(0)?.gather(&mut recorder, &slots)?;
/// recorder.submit()?;
/// assert_eq!(keys.download_blocking()?.sum(), 36.0); // 6 tokens of 2 * 3 ones
/// # Ok::<(), llm_kvcache::gpu::GpuKvCacheError>(())
/// ```
///
/// Source: Kwon et al., vLLM, arXiv:2309.06180v1, section 4.
#[derive(Clone, Debug)]
pub struct GpuPool<E: GpuPageElement> {
    layers: Vec<GpuPages<E>>,
    shape: PageShape,
}

impl<E: GpuPageElement> GpuPool<E> {
    /// Pages of zeros in each layer. Of the configuration the hash of prefixes does not matter here.
    ///
    /// # Errors
    ///
    /// Those of [`GpuPages::new`], and [`KvCacheError::Allocation`].
    pub fn new(gpu: &Gpu, config: &PoolConfig) -> Result<Self, GpuKvCacheError> {
        let mut layers = reserve(config.n_layers)?;
        for _ in 0..config.n_layers {
            layers.push(GpuPages::new(gpu, config.shape())?);
        }
        Ok(Self {
            layers,
            shape: config.shape(),
        })
    }

    /// The pages of a layer.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Layer`] if there is no such layer.
    pub fn layer(&self, layer: usize) -> Result<&GpuPages<E>, GpuKvCacheError> {
        let n_layers = self.layers.len();
        let found = self.layers.get(layer);
        Ok(found.ok_or(KvCacheError::Layer { layer, n_layers })?)
    }

    /// Number of layers.
    #[must_use]
    pub const fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Sizes of a layer's pages.
    #[must_use]
    pub const fn shape(&self) -> PageShape {
        self.shape
    }

    /// Records copies of pages in all layers: keys, values and scales.
    ///
    /// All pages are read before the first is written, so that the order of the list does not matter: pages may change places. What a
    /// table says is copied straight; only if a page is both read and written, by way of scratch memory of the size of the list's pages.
    ///
    /// # Errors
    ///
    /// - [`GpuKvCacheError::Place`] if a page is not in the pool, [`GpuKvCacheError::Twice`] if one is written twice.
    /// - [`GpuKvCacheError::Gpu`] if the device has no room.
    ///
    /// What is wrong with a list is found before anything is recorded.
    ///
    /// # Precision
    ///
    /// Exact: bits are copied.
    pub fn copy_pages(
        &self,
        recorder: &mut Recorder,
        copies: &[PageCopy],
    ) -> Result<(), GpuKvCacheError> {
        let runs = of_pages(self.shape, copies)?;
        let plan = Plan::new(recorder.gpu(), self.shape, &runs)?;
        (self.layers.iter()).try_for_each(|layer| plan.record(recorder, layer))
    }

    /// Records moves of tokens in all layers: what [`PageTable::retain`](crate::paged::PageTable::retain) returns.
    ///
    /// All tokens are read before the first is written.
    ///
    /// # Errors
    ///
    /// As [`copy_pages`](Self::copy_pages), for places.
    ///
    /// # Precision
    ///
    /// Exact: bits are copied.
    pub fn move_tokens(
        &self,
        recorder: &mut Recorder,
        moves: &[TokenMove],
    ) -> Result<(), GpuKvCacheError> {
        let runs = of_tokens(self.shape, moves)?;
        let plan = Plan::new(recorder.gpu(), self.shape, &runs)?;
        (self.layers.iter()).try_for_each(|layer| plan.record(recorder, layer))
    }
}
