//! What happens to whole sequences of a pool: the table decides, the pages follow.

use ndarray::{ArrayView3, s};

use super::data::{PageData, PageShape};
use super::{PageCopy, PagedCache, SequenceId};
use crate::KvCacheError;
use crate::token::TokenShape;

impl<P: PageData> PagedCache<P> {
    /// An empty sequence; see [`PageTable::create`](super::PageTable::create).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create(&mut self, salt: &[u8]) -> Result<SequenceId, KvCacheError> {
        self.table.create(salt)
    }

    /// A sequence that begins with a cached prefix, and its length; see
    /// [`PageTable::create_with_prefix`](super::PageTable::create_with_prefix).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create_with_prefix(
        &mut self,
        salt: &[u8],
        tokens: &[u32],
    ) -> Result<(SequenceId, usize), KvCacheError> {
        self.table.create_with_prefix(salt, tokens)
    }

    /// Puts the full pages of a sequence into the prefix cache; see [`PageTable::publish`](super::PageTable::publish).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn publish(&mut self, id: SequenceId, tokens: &[u32]) -> Result<usize, KvCacheError> {
        self.table.publish(id, tokens)
    }

    /// Empties the prefix cache. Sequences keep what they hold.
    pub fn forget_prefixes(&mut self) {
        self.table.forget_prefixes();
    }

    /// A new sequence that shares the pages of another; see [`PageTable::fork`](super::PageTable::fork).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId, KvCacheError> {
        self.table.fork(id)
    }

    /// Keeps the first `len` tokens; see [`PageTable::crop`](super::PageTable::crop).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn crop(&mut self, id: SequenceId, len: usize) -> Result<(), KvCacheError> {
        self.table.crop(id, len)
    }

    /// Forgets a sequence; see [`PageTable::free`](super::PageTable::free).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn free(&mut self, id: SequenceId) -> Result<(), KvCacheError> {
        self.table.free(id)
    }

    /// Sequence `ids[i]` becomes what `sources[i]` was; see [`PageTable::reorder`](super::PageTable::reorder).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reorder(
        &mut self,
        ids: &[SequenceId],
        sources: &[SequenceId],
    ) -> Result<(), KvCacheError> {
        self.table.reorder(ids, sources)
    }

    /// Keeps the tokens at some indices, and moves them together; see [`PageTable::retain`](super::PageTable::retain).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn retain(&mut self, id: SequenceId, keep: &[usize]) -> Result<(), KvCacheError> {
        for step in self.table.retain(id, keep)? {
            let at = |(page, place): (u32, usize)| (page as usize, place);
            for layer in &mut self.layers {
                layer.copy(at(step.from), at(step.to));
            }
        }
        Ok(())
    }

    /// Moves what is held to the first pages of the pool; see [`PageTable::compact`](super::PageTable::compact).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn compact(&mut self) -> Result<(), KvCacheError> {
        let copies = self.table.compact()?;
        self.copy_pages(&copies);
        Ok(())
    }

    /// Gives the pool another number of pages; see [`PageTable::resize`](super::PageTable::resize).
    ///
    /// Old and new pages of a layer are in memory together for a while.
    ///
    /// # Errors
    ///
    /// As there, and [`KvCacheError::Size`] for the arrays.
    pub fn resize(&mut self, n_pages: usize) -> Result<(), KvCacheError> {
        let mut table = self.table.clone();
        table.resize(n_pages)?;
        let layers = self.layers.iter().map(|layer| layer.resized(n_pages));
        self.layers = layers.collect::<Result<_, _>>()?;
        self.table = table;
        self.shape.n_pages = n_pages;
        Ok(())
    }

    /// Room in the table, and copies of the pages that would be shared and written.
    pub(super) fn grow(&mut self, by: &[(SequenceId, usize)]) -> Result<(), KvCacheError> {
        let copies = self.table.grow(by)?;
        self.copy_pages(&copies);
        Ok(())
    }

    fn copy_pages(&mut self, copies: &[PageCopy]) {
        for &PageCopy { from, to } in copies {
            for layer in &mut self.layers {
                for place in 0..self.shape.page_size {
                    layer.copy((from as usize, place), (to as usize, place));
                }
            }
        }
    }

    /// Writes tokens whose room and shapes were checked.
    pub(super) fn write_checked(
        &mut self,
        layer: usize,
        id: SequenceId,
        start: usize,
        k: ArrayView3<'_, P::Input>,
        v: ArrayView3<'_, P::Input>,
    ) -> Result<(), KvCacheError> {
        let page_size = self.shape.page_size;
        let seq = k.dim().1;
        let pages = self.table.pages(id)?;
        let mut done = 0;
        while done < seq {
            let token = start + done;
            let place = token % page_size;
            let n = (page_size - place).min(seq - done);
            let new = s![.., done..done + n, ..];
            self.layers[layer].write(
                pages[token / page_size] as usize,
                place,
                k.slice(new),
                v.slice(new),
            );
            done += n;
        }
        Ok(())
    }

    pub(super) fn check_layer(&self, layer: usize) -> Result<(), KvCacheError> {
        let n_layers = self.layers.len();
        if layer < n_layers {
            Ok(())
        } else {
            Err(KvCacheError::Layer { layer, n_layers })
        }
    }

    pub(super) fn check_n_layers(&self, keys: usize, values: usize) -> Result<(), KvCacheError> {
        let expected = self.layers.len();
        if keys == expected && values == expected {
            Ok(())
        } else {
            Err(KvCacheError::Layers {
                expected,
                keys,
                values,
            })
        }
    }

    /// The number of tokens, which is that of the first layer's keys in all layers.
    pub(super) fn check_layers(
        &self,
        k: &[ArrayView3<'_, P::Input>],
        v: &[ArrayView3<'_, P::Input>],
    ) -> Result<usize, KvCacheError> {
        self.check_n_layers(k.len(), v.len())?;
        let seq = k.first().map_or(0, |k| k.dim().1);
        for (k, v) in k.iter().zip(v) {
            self.check_shapes(*k, *v)?;
            if k.dim().1 != seq {
                return Err(KvCacheError::LayerTokens {
                    expected: seq,
                    got: k.dim().1,
                });
            }
            P::check(*k, *v)?;
        }
        Ok(seq)
    }

    pub(super) fn check_shapes(
        &self,
        k: ArrayView3<'_, P::Input>,
        v: ArrayView3<'_, P::Input>,
    ) -> Result<(), KvCacheError> {
        let PageShape {
            n_kv_heads,
            head_dim,
            value_dim,
            ..
        } = self.shape;
        let token = TokenShape {
            n_kv_heads,
            head_dim,
            value_dim,
        };
        token.check(k.dim().into(), v.dim().into())
    }
}
