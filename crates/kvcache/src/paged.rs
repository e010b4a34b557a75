//! A pool of pages that many sequences share, in the layout that attention reads.

mod data;
mod float;
mod int4;
mod int8;
mod prefix;
mod saved;
mod sequences;
mod table;

pub use data::{PageData, PageShape, Pages};
pub use float::FloatPages;
pub use int4::Int4Pages;
pub use int8::Int8Pages;
pub use prefix::PrefixHash;
pub(crate) use saved::{SavedEntry, SavedSequence, SavedTable};
pub use table::{PageCopy, PageTable, SequenceId, TokenMove};

use data::sealed::Store;
use ndarray::{Array1, Array2, Array3, ArrayView3, ArrayView4, Axis, s};

use crate::KvCacheError;
use crate::memory::{reserve, zeros};

/// Keys and values of all layers and many sequences, in pages of a pool.
///
/// Token `t` of a sequence is at place `t % page_size` of page `pages(id)[t / page_size]`, in every
/// layer. The arrays are those that `llm_attention::paged::PagedKv` reads, and
/// [`block_table`](Self::block_table) makes its other two arguments.
///
/// A model calls [`extend`](Self::extend) once for the tokens of a step, which finds room for all
/// layers or for none, and [`write`](Self::write) in each layer; who has keys and values of all layers at
/// once calls [`append`](Self::append).
///
/// # Shapes
///
/// - keys of a layer: `[n_pages, kv_heads, page_size, head_dim]`
/// - values of a layer: `[n_pages, kv_heads, page_size, value_dim]`
///
/// # Invariants
///
/// - Those of [`PageTable`], which says who holds which page; all layers have the same pages.
/// - A sequence never reads what another one wrote, but for pages that they share on purpose:
///   new places are zeros until they are written.
/// - A call that returns an error has changed nothing, in no layer and no sequence.
///
/// # Example
///
/// ```
/// use llm_kvcache::paged::{FloatPages, PagedCache, PoolConfig};
/// use ndarray::Array3;
///
/// // 1 layer, 8 pages of 4 tokens, 2 key-value heads of 3 features.
/// let mut cache = PagedCache::<FloatPages<f32>>::new(&PoolConfig::new(1, 8, 4, 2, 3))?;
/// let prompt = cache.create(b"")?;
/// let k = Array3::<f32>::ones([2, 6, 3]); // [kv_heads, seq, head_dim]
/// cache.append(prompt, &[k.view()], &[k.view()])?;
///
/// let other = cache.fork(prompt)?; // a second answer to the same prompt: no page more
/// assert_eq!(cache.table().n_free(), 6);
/// let token = Array3::<f32>::zeros([2, 1, 3]);
/// cache.append(other, &[token.view()], &[token.view()])?; // copies the page that it writes
/// let (block_table, lengths) = cache.block_table(&[prompt, other])?;
/// assert_eq!(lengths, ndarray::array![6, 7]);
/// assert_eq!(block_table[[0, 0]], block_table[[1, 0]]);
/// assert_ne!(block_table[[0, 1]], block_table[[1, 1]]);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: Kwon et al., vLLM, arXiv:2309.06180v1, section 4.
#[derive(Clone, Debug)]
pub struct PagedCache<P> {
    table: PageTable,
    layers: Vec<P>,
    shape: PageShape,
}

/// Keys and values of a sequence: `[kv_heads, len, head_dim]` and `[kv_heads, len, value_dim]`.
pub type KeysValues<E> = (Array3<E>, Array3<E>);

/// The sizes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Layers that share the table.
    pub n_layers: usize,
    /// Pages of each layer.
    pub n_pages: usize,
    /// Tokens of a page.
    pub page_size: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Features of a key.
    pub head_dim: usize,
    /// Features of a value.
    pub value_dim: usize,
    /// How the prefix cache finds its entries.
    pub hash: PrefixHash,
}

impl PoolConfig {
    /// A pool whose values have as many features as its keys.
    #[must_use]
    pub fn new(
        n_layers: usize,
        n_pages: usize,
        page_size: usize,
        n_kv_heads: usize,
        head_dim: usize,
    ) -> Self {
        Self {
            n_layers,
            n_pages,
            page_size,
            n_kv_heads,
            head_dim,
            value_dim: head_dim,
            hash: PrefixHash::default(),
        }
    }

    /// With another number of features in a value.
    #[must_use]
    pub fn with_value_dim(mut self, value_dim: usize) -> Self {
        self.value_dim = value_dim;
        self
    }

    /// With another hash of prefixes: a secret key, where others choose the tokens.
    #[must_use]
    pub fn with_hash(mut self, hash: PrefixHash) -> Self {
        self.hash = hash;
        self
    }

    pub(crate) fn shape(&self) -> PageShape {
        PageShape {
            n_pages: self.n_pages,
            n_kv_heads: self.n_kv_heads,
            page_size: self.page_size,
            head_dim: self.head_dim,
            value_dim: self.value_dim,
        }
    }
}

impl<P: PageData> PagedCache<P> {
    /// A pool of free pages, with all its memory.
    ///
    /// # Errors
    ///
    /// - Those of [`PageTable::new`].
    /// - [`KvCacheError::Size`], [`KvCacheError::Allocation`] for the pages.
    pub fn new(config: &PoolConfig) -> Result<Self, KvCacheError> {
        let table = PageTable::with_hash(config.n_pages, config.page_size, config.hash)?;
        let mut layers = reserve(config.n_layers)?;
        for _ in 0..config.n_layers {
            layers.push(P::new(config.shape())?);
        }
        Ok(Self {
            table,
            layers,
            shape: config.shape(),
        })
    }

    /// Adds tokens to a sequence in all layers, or in none.
    ///
    /// # Shapes
    ///
    /// - `k`: one `[kv_heads, seq, head_dim]` for each layer, any strides, the same `seq` in all
    /// - `v`: one `[kv_heads, seq, value_dim]` for each layer
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Layers`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`].
    /// - [`KvCacheError::NotQuantizable`] from pages of integers.
    /// - Those of [`PageTable::grow`].
    pub fn append(
        &mut self,
        id: SequenceId,
        k: &[ArrayView3<'_, P::Input>],
        v: &[ArrayView3<'_, P::Input>],
    ) -> Result<(), KvCacheError> {
        let seq = self.check_layers(k, v)?;
        let start = self.table.len(id)?;
        self.grow(&[(id, seq)])?;
        for (layer, (k, v)) in k.iter().zip(v).enumerate() {
            self.write_checked(layer, id, start, *k, *v)?;
        }
        Ok(())
    }

    /// Adds as many tokens to each of some sequences in all layers, or none to any.
    ///
    /// # Shapes
    ///
    /// - `k`: one `[batch, kv_heads, seq, head_dim]` for each layer, any strides
    /// - `v`: one `[batch, kv_heads, seq, value_dim]` for each layer
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Batch`], and those of [`append`](Self::append).
    pub fn append_batch(
        &mut self,
        ids: &[SequenceId],
        k: &[ArrayView4<'_, P::Input>],
        v: &[ArrayView4<'_, P::Input>],
    ) -> Result<(), KvCacheError> {
        self.check_n_layers(k.len(), v.len())?;
        for (k, v) in k.iter().zip(v) {
            let [keys, values] = [k, v].map(|x| x.len_of(Axis(0)));
            if keys != ids.len() || values != ids.len() {
                return Err(KvCacheError::Batch {
                    expected: ids.len(),
                    keys,
                    values,
                });
            }
        }
        let mut starts = reserve(ids.len())?;
        let mut by = reserve(ids.len())?;
        for (row, &id) in ids.iter().enumerate() {
            let seq = self.check_layers(&of_row(k, row), &of_row(v, row))?;
            starts.push(self.table.len(id)?);
            by.push((id, seq));
        }
        self.grow(&by)?;
        for (layer, (k, v)) in k.iter().zip(v).enumerate() {
            for (row, (&id, &start)) in ids.iter().zip(&starts).enumerate() {
                let [k, v] = [k, v].map(|x| x.index_axis(Axis(0), row));
                self.write_checked(layer, id, start, k, v)?;
            }
        }
        Ok(())
    }

    /// Makes each sequence longer by a number of tokens, which are zeros until [`write`](Self::write) writes them.
    ///
    /// # Errors
    ///
    /// Those of [`PageTable::grow`]: then no sequence has changed.
    pub fn extend(&mut self, by: &[(SequenceId, usize)]) -> Result<(), KvCacheError> {
        self.grow(by)?;
        let page_size = self.shape.page_size;
        for &(id, n) in by {
            let end = self.table.len(id)?;
            let mut start = end - n;
            while start < end {
                let place = start % page_size;
                let places = place..page_size.min(place + end - start);
                let page = self.table.pages(id)?[start / page_size] as usize;
                for layer in &mut self.layers {
                    layer.clear(page, places.clone());
                }
                start += places.len();
            }
        }
        Ok(())
    }

    /// Writes tokens of a sequence, from index `start` on, in one layer.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides
    /// - `v`: `[kv_heads, seq, value_dim]`
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Layer`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`].
    /// - [`KvCacheError::NotQuantizable`] from pages of integers.
    /// - Those of [`PageTable::check_write`]: tokens of others, and of prefixes, are not written.
    pub fn write(
        &mut self,
        layer: usize,
        id: SequenceId,
        start: usize,
        k: ArrayView3<'_, P::Input>,
        v: ArrayView3<'_, P::Input>,
    ) -> Result<(), KvCacheError> {
        self.check_layer(layer)?;
        self.check_shapes(k, v)?;
        P::check(k, v)?;
        let end = start.saturating_add(k.dim().1);
        self.table.check_write(id, start, end)?;
        self.write_checked(layer, id, start, k, v)
    }

    /// The keys and values of a sequence in one layer, copied, and widened if they are quantized.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, len, head_dim]` and `[kv_heads, len, value_dim]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Layer`], [`KvCacheError::Sequence`], [`KvCacheError::Size`] and [`KvCacheError::Allocation`].
    pub fn gather(
        &self,
        layer: usize,
        id: SequenceId,
    ) -> Result<KeysValues<P::Input>, KvCacheError> {
        self.check_layer(layer)?;
        let len = self.table.len(id)?;
        let PageShape {
            n_kv_heads,
            page_size,
            head_dim,
            value_dim,
            ..
        } = self.shape;
        let array = |features| Ok(zeros([1, n_kv_heads, len, features])?.remove_axis(Axis(0)));
        let (mut k, mut v) = (array(head_dim)?, array(value_dim)?);
        for (index, &page) in self.table.pages(id)?.iter().enumerate() {
            let start = index * page_size;
            let n = page_size.min(len - start);
            let tokens = s![.., start..start + n, ..];
            self.layers[layer].read(
                page as usize,
                0..n,
                k.slice_mut(tokens),
                v.slice_mut(tokens),
            );
        }
        Ok((k, v))
    }

    /// The pages of a layer, with their arrays.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Layer`] if there is no such layer.
    pub fn layer(&self, layer: usize) -> Result<&P, KvCacheError> {
        self.check_layer(layer)?;
        Ok(&self.layers[layer])
    }

    /// Who holds which page.
    #[must_use]
    pub fn table(&self) -> &PageTable {
        &self.table
    }

    /// The pages of some sequences, as attention reads them; see [`PageTable::block_table`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn block_table(
        &self,
        ids: &[SequenceId],
    ) -> Result<(Array2<u32>, Array1<u32>), KvCacheError> {
        self.table.block_table(ids)
    }

    /// Number of layers.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Sizes of a layer's pages.
    #[must_use]
    pub fn shape(&self) -> PageShape {
        self.shape
    }

    /// Bytes of the pages of all layers, used or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(Store::bytes).sum()
    }
}

/// One sequence of a batch, in each layer.
fn of_row<'a, E>(layers: &'a [ArrayView4<'_, E>], row: usize) -> Vec<ArrayView3<'a, E>> {
    (layers.iter())
        .map(|x| x.index_axis(Axis(0), row))
        .collect()
}
