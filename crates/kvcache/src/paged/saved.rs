//! A table as a file has it, and the checks that make one of what a file says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::data::PageData;
use super::prefix::Parent;
use super::table::{PageTable, Sequence};
use super::{PagedCache, SequenceId};
use crate::KvCacheError;

/// What a file says of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct SavedTable {
    pub(crate) next_id: u64,
    pub(crate) sequences: Vec<SavedSequence>,
    pub(crate) entries: Vec<SavedEntry>,
    /// Pages that no sequence holds, the one to go first in front.
    pub(crate) idle: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct SavedSequence {
    pub(crate) id: u64,
    pub(crate) len: usize,
    pub(crate) intact: usize,
    pub(crate) salt: Vec<u8>,
    pub(crate) pages: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct SavedEntry {
    pub(crate) page: u32,
    /// Place of an earlier entry.
    pub(crate) parent: Option<usize>,
    /// Without a parent.
    pub(crate) salt: Vec<u8>,
    pub(crate) tokens: Vec<u32>,
}

impl SavedTable {
    /// Pages that hold something, rising.
    pub(crate) fn live_pages(&self) -> Vec<u32> {
        let of_sequences = self.sequences.iter().flat_map(|sequence| &sequence.pages);
        let of_entries = self.entries.iter().map(|entry| &entry.page);
        let live: BTreeSet<u32> = of_sequences.chain(of_entries).copied().collect();
        live.into_iter().collect()
    }
}

impl PageTable {
    /// Pages that hold something, rising.
    pub(crate) fn live_pages(&self) -> Vec<u32> {
        let pages = 0..self.n_pages() as u32;
        let is_live = |page: &u32| self.references(*page) > 0 || self.is_published(*page);
        pages.filter(is_live).collect()
    }

    pub(crate) fn saved(&self) -> SavedTable {
        let sequences = self.sequences.iter().map(|(&id, sequence)| SavedSequence {
            id,
            len: sequence.len,
            intact: sequence.intact,
            salt: sequence.salt.to_vec(),
            pages: sequence.pages.clone(),
        });
        let mut places = BTreeMap::new();
        let mut entries = Vec::new();
        for (id, entry) in self.prefixes.entries() {
            places.insert(id, entries.len());
            let (parent, salt) = match &entry.parent {
                Parent::Salt(salt) => (None, salt.to_vec()),
                Parent::Entry(parent) => (places.get(parent).copied(), Vec::new()),
            };
            entries.push(SavedEntry {
                page: entry.page,
                parent,
                salt,
                tokens: entry.tokens.to_vec(),
            });
        }
        SavedTable {
            next_id: self.next_id,
            sequences: sequences.collect(),
            entries,
            idle: self.prefixes.idle().collect(),
        }
    }

    /// Fills an empty table.
    fn restore(&mut self, saved: SavedTable) -> Result<(), KvCacheError> {
        let refused = |name, rule, got: u64| KvCacheError::FileInconsistent { name, rule, got };
        // Pages are shared under one salt only: a file must not do what no call does.
        let mut salts: BTreeMap<u32, Arc<[u8]>> = BTreeMap::new();
        let mut check_salt = |page: u32, salt: &Arc<[u8]>| {
            if salts.entry(page).or_insert_with(|| Arc::clone(salt)) == salt {
                return Ok(());
            }
            Err(refused("page", "shared under one salt", page.into()))
        };
        for SavedSequence {
            id,
            len,
            intact,
            salt,
            pages,
        } in saved.sequences
        {
            let distinct: BTreeSet<u32> = pages.iter().copied().collect();
            if distinct.len() != pages.len() {
                return Err(refused("sequence", "one that has no page twice", id));
            }
            let salt: Arc<[u8]> = Arc::from(salt);
            for &page in &pages {
                check_salt(page, &salt)?;
                self.pages[page as usize].references += 1;
            }
            let sequence = Sequence {
                pages,
                len,
                salt,
                intact,
            };
            self.sequences.insert(id, sequence);
        }
        let hash = self.prefixes.hash();
        let mut chains: Vec<(u64, u64, Arc<[u8]>)> = Vec::new(); // entry, hash, salt
        for SavedEntry {
            page,
            parent,
            salt,
            tokens,
        } in saved.entries
        {
            let (parent, before, salt) = match parent.and_then(|parent| chains.get(parent)) {
                Some((entry, chain, salt)) => (Parent::Entry(*entry), *chain, Arc::clone(salt)),
                None => {
                    let salt: Arc<[u8]> = Arc::from(salt);
                    (Parent::Salt(Arc::clone(&salt)), hash.root(&salt), salt)
                }
            };
            check_salt(page, &salt)?;
            let chain = hash.page(before, &tokens);
            let is_new = self.prefixes.find(chain, &parent, &tokens).is_none();
            if self.pages[page as usize].entry.is_some() || !is_new {
                return Err(refused(
                    "cached page",
                    "there once, with tokens that no other has",
                    page.into(),
                ));
            }
            let entry = self.prefixes.insert(chain, parent, &tokens, page);
            self.pages[page as usize].entry = Some(entry);
            chains.push((entry, chain, salt));
        }
        let waits =
            |table: &Self, page: u32| table.references(page) == 0 && table.is_published(page);
        let mut seen = BTreeSet::new();
        for page in saved.idle {
            if !waits(self, page) || !seen.insert(page) {
                return Err(refused(
                    "page without a sequence",
                    "cached, there once, and held by none",
                    page.into(),
                ));
            }
            self.prefixes.rest(page);
        }
        let missing =
            (0..self.n_pages() as u32).find(|page| waits(self, *page) && !seen.contains(page));
        if let Some(page) = missing {
            return Err(refused(
                "cached page",
                "held by a sequence, or among those without one",
                page.into(),
            ));
        }
        self.next_id = saved.next_id;
        let is_live: BTreeSet<u32> = self.live_pages().into_iter().collect();
        self.free.retain(|page| !is_live.contains(page));
        Ok(())
    }
}

impl<P: PageData> PagedCache<P> {
    /// Fills an empty pool; the data of a layer is that of the live pages, one behind the other.
    pub(crate) fn restore(
        &mut self,
        saved: SavedTable,
        live: &[u32],
        data: &[Vec<u8>],
    ) -> Result<(), KvCacheError> {
        self.table.restore(saved)?;
        for (layer, data) in self.layers.iter_mut().zip(data) {
            let n = data.len().checked_div(live.len()).unwrap_or(0);
            for (index, &page) in live.iter().enumerate() {
                layer.load_page(page as usize, &data[index * n..(index + 1) * n])?;
            }
        }
        Ok(())
    }

    /// The sequence with a number, as one knows it from before the pool was saved.
    #[must_use]
    pub fn find(&self, number: u64) -> Option<SequenceId> {
        let id = SequenceId(number);
        self.table.len(id).ok().map(|_| id)
    }
}
