//! A pool in a file: the table, and then the pages that hold something, layer by layer.

use std::io::{Read, Write};

use super::{Input, Kind, Output, limit, product};
use crate::KvCacheError;
use crate::paged::{
    PageData, PagedCache, PoolConfig, PrefixHash, SavedEntry, SavedSequence, SavedTable,
};

impl<P: PageData> PagedCache<P> {
    /// Writes the pool: sequences with what they share, cached prefixes, and the pages in use.
    ///
    /// The key of the prefix hash is not written. Pages are written whole, with what was once in the places behind the end of
    /// a sequence.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Io`] if writing fails; the pool has not changed.
    pub fn save(&self, to: impl Write) -> Result<(), KvCacheError> {
        let mut output = Output::new(to, Kind::Pool, P::KIND)?;
        let shape = self.shape();
        output.sizes(&[
            self.n_layers(),
            shape.n_pages,
            shape.page_size,
            shape.n_kv_heads,
            shape.head_dim,
            shape.value_dim,
        ])?;
        let saved = self.table().saved();
        output.numbers(&[saved.next_id])?;
        output.sizes(&[saved.sequences.len(), saved.entries.len(), saved.idle.len()])?;
        output.end_section()?;
        for sequence in &saved.sequences {
            output.numbers(&[sequence.id, sequence.len as u64, sequence.intact as u64])?;
            output.sizes(&[sequence.salt.len()])?;
            output.bytes(&sequence.salt)?;
            sequence
                .pages
                .iter()
                .try_for_each(|&page| output.numbers(&[page.into()]))?;
        }
        output.end_section()?;
        for entry in &saved.entries {
            // A first page has no parent, and a salt.
            let parent = entry.parent.map_or(0, |parent| parent as u64 + 1);
            output.numbers(&[entry.page.into(), parent])?;
            if entry.parent.is_none() {
                output.sizes(&[entry.salt.len()])?;
                output.bytes(&entry.salt)?;
            }
            entry
                .tokens
                .iter()
                .try_for_each(|token| output.bytes(&token.to_le_bytes()))?;
        }
        saved
            .idle
            .iter()
            .try_for_each(|&page| output.numbers(&[page.into()]))?;
        output.end_section()?;
        let mut bytes = Vec::new();
        for layer in 0..self.n_layers() {
            for page in self.table().live_pages() {
                bytes.clear();
                self.layer(layer)?.save_page(page as usize, &mut bytes);
                output.bytes(&bytes)?;
                output.end_section()?;
            }
        }
        output.finish()
    }

    /// Reads a pool that [`save`](Self::save) wrote. Sequences keep their numbers.
    ///
    /// The hash of prefixes is chosen anew.
    ///
    /// # Errors
    ///
    /// As [`ContiguousCache::load`](crate::ContiguousCache::load): what would count a page twice, name one that is not
    /// there, share one under two salts, or have an end without a start is a [`KvCacheError::FileField`] or a [`KvCacheError::FileInconsistent`].
    pub fn load(from: impl Read, hash: PrefixHash, max_bytes: usize) -> Result<Self, KvCacheError> {
        let mut input = Input::new(from, Kind::Pool, P::KIND)?;
        let mut sizes = [0; 6];
        let names = [
            "n_layers",
            "n_pages",
            "page_size",
            "n_kv_heads",
            "head_dim",
            "value_dim",
        ];
        for (size, name) in sizes.iter_mut().zip(names) {
            let least = u64::from(name == "page_size");
            *size = input.number(name, least, u32::MAX.into())? as usize;
        }
        let [
            n_layers,
            n_pages,
            page_size,
            n_kv_heads,
            head_dim,
            value_dim,
        ] = sizes;
        // The last number is given to none, so that there is always a next one.
        let next_id = input.any_number()?;
        let n_sequences = input.size("number of sequences", isize::MAX as usize)?;
        let n_entries = input.size("number of cached pages", n_pages)?;
        let n_idle = input.size("number of pages without a sequence", n_entries)?;
        input.end_section("sequences")?;
        let config = PoolConfig::new(n_layers, n_pages, page_size, n_kv_heads, head_dim)
            .with_value_dim(value_dim)
            .with_hash(hash);
        let too_much = KvCacheError::FileLimit {
            limit: max_bytes as u64,
            needed: u64::MAX,
        };
        let page_bytes = P::page_bytes(config.shape()).ok_or(too_much)?;
        let all_pages = product(&[n_layers, n_pages, page_bytes], max_bytes)?;
        let layers = product(&[n_layers, size_of::<P>()], max_bytes)?;
        let lists = product(&[n_pages, 64], max_bytes)?;
        let of_sequences = product(&[n_sequences, size_of::<SavedSequence>()], max_bytes)?;
        limit(&[all_pages, layers, lists, of_sequences], max_bytes)?;

        let mut saved = SavedTable {
            next_id,
            ..SavedTable::default()
        };
        let mut left = max_bytes;
        for _ in 0..n_sequences {
            let least = saved
                .sequences
                .last()
                .map_or(0, |last: &SavedSequence| last.id + 1);
            let id = input.any_number()?;
            if !(least..next_id).contains(&id) {
                return Err(KvCacheError::FileInconsistent {
                    name: "number of a sequence",
                    rule: "above the one before it and below the next one to give",
                    got: id,
                });
            }
            let len = input.size("length", n_pages.saturating_mul(page_size))?;
            let intact = input.any_number()?.min(usize::MAX as u64) as usize;
            let salt = salt(&mut input, &mut left)?;
            let held = len.div_ceil(page_size);
            left = left
                .checked_sub(held.saturating_mul(size_of::<u32>()))
                .ok_or(too_much)?;
            let mut pages = Vec::new();
            for _ in 0..held {
                pages.push(page(&mut input, n_pages)?);
            }
            saved.sequences.push(SavedSequence {
                id,
                len,
                intact,
                salt,
                pages,
            });
        }
        input.end_section("prefixes")?;
        for index in 0..n_entries {
            let page = page(&mut input, n_pages)?;
            let parent = input
                .size("entry that a page continues", index)?
                .checked_sub(1);
            let salt = match parent {
                None => salt(&mut input, &mut left)?,
                Some(_) => Vec::new(),
            };
            let n_bytes = page_size.saturating_mul(size_of::<u32>());
            left = left.checked_sub(n_bytes).ok_or(too_much)?;
            let bytes = input.bytes(n_bytes)?;
            let token = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let tokens = bytes.chunks_exact(4).map(token).collect();
            saved.entries.push(SavedEntry {
                page,
                parent,
                salt,
                tokens,
            });
        }
        for _ in 0..n_idle {
            saved.idle.push(page(&mut input, n_pages)?);
        }
        input.end_section("pages")?;
        let live = saved.live_pages();
        // One list for each layer, since pages may have no bytes.
        let mut data = Vec::new();
        for _ in 0..n_layers {
            let mut pages = Vec::new();
            for _ in &live {
                input.more_bytes(page_bytes, &mut pages)?;
                input.end_section("pages")?;
            }
            data.push(pages);
        }
        let mut cache = Self::new(&config)?;
        cache.restore(saved, &live, &data)?;
        Ok(cache)
    }
}

/// The number of a page.
fn page<R: Read>(input: &mut Input<R>, n_pages: usize) -> Result<u32, KvCacheError> {
    let name = "number of a page";
    let last = n_pages
        .checked_sub(1)
        .ok_or(KvCacheError::FileInconsistent {
            name,
            rule: "below the number of pages, of which there are none",
            got: 0,
        })?;
    Ok(input.size(name, last)? as u32)
}

fn salt<R: Read>(input: &mut Input<R>, left: &mut usize) -> Result<Vec<u8>, KvCacheError> {
    let n = input.size("length of a salt", *left)?;
    *left -= n;
    input.bytes(n)
}
