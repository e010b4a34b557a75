//! Which sequence holds which page: numbers only, no keys. A pool on any device can be kept by it.

mod evict;
mod prefixes;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ndarray::{Array1, Array2};

use super::prefix::{PrefixHash, PrefixIndex};
use crate::memory::reserve;
use crate::{KvCacheError, token};

/// A sequence of a pool. No other of the same pool ever gets the same; those of different pools are equal often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(crate) u64);

impl SequenceId {
    /// Its number, as errors name it.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A page whose tokens must be copied to another, in all layers, before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCopy {
    /// The page to read.
    pub from: u32,
    /// The page to write.
    pub to: u32,
}

/// A token that must be copied to another place, in all layers. A list of them is done in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenMove {
    /// Page and place to read.
    pub from: (u32, usize),
    /// Page and place to write.
    pub to: (u32, usize),
}

/// The bookkeeping of a pool of pages: sequences, their pages, and how many sequences hold each page.
///
/// Sequences share pages after [`fork`](Self::fork), [`reorder`](Self::reorder) and
/// [`create_with_prefix`](Self::create_with_prefix). A page that is shared is never written: a
/// sequence that would write gets a copy first ([`PageCopy`]). Pages that no sequence holds any
/// more are free, or stay as cached prefixes until their room is needed.
///
/// [`PagedCache`](super::PagedCache) keeps one beside its arrays. Whoever has the pages on a device
/// keeps one too, and does there what the returned lists say.
///
/// # Invariants
///
/// - Each page is free, cached (an entry of the prefix cache, no sequence), or held by exactly as many
///   sequences as [`references`](Self::references) says.
/// - A sequence of `len` tokens holds `ceil(len / page_size)` pages, none of them twice.
/// - A call that returns an error has changed nothing.
///
/// # Example
///
/// ```
/// use llm_kvcache::paged::{PageCopy, PageTable};
///
/// let mut table = PageTable::new(4, 2)?; // 4 pages of 2 tokens
/// let a = table.create(b"")?;
/// table.grow(&[(a, 3)])?;
/// let b = table.fork(a)?; // shares both pages
/// assert_eq!(table.references(table.pages(a)?[1]), 2);
/// // The next token of b lies in a page that a reads too: b gets a copy of it.
/// let copies = table.grow(&[(b, 1)])?;
/// assert_eq!(copies, [PageCopy { from: table.pages(a)?[1], to: table.pages(b)?[1] }]);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: Kwon et al., vLLM, arXiv:2309.06180v1, sections 4.2 to 4.4.
#[derive(Clone, Debug)]
pub struct PageTable {
    page_size: usize,
    pub(super) pages: Vec<Page>,
    pub(super) free: Vec<u32>, // a stack
    pub(super) sequences: BTreeMap<u64, Sequence>,
    pub(super) next_id: u64,
    pub(super) prefixes: PrefixIndex,
}

/// Who holds a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Page {
    pub(super) references: usize,
    /// Its entry in the prefix cache.
    pub(super) entry: Option<u64>,
}

/// The pages of a sequence.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) pages: Vec<u32>,
    pub(super) len: usize,
    pub(super) salt: Arc<[u8]>,
    /// Leading tokens whose keys depend only on the tokens before them: none was dropped there.
    pub(super) intact: usize,
}

impl PageTable {
    /// A table of free pages. Prefixes are hashed with [`PrefixHash::default`].
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::PageSize`] if `page_size` is 0.
    /// - [`KvCacheError::Size`] if pages or tokens cannot be counted in 32 bits, as block tables do.
    /// - [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn new(n_pages: usize, page_size: usize) -> Result<Self, KvCacheError> {
        Self::with_hash(n_pages, page_size, PrefixHash::default())
    }

    /// [`new`](Self::new), with the hash of the prefix cache.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_hash(
        n_pages: usize,
        page_size: usize,
        hash: PrefixHash,
    ) -> Result<Self, KvCacheError> {
        if page_size == 0 {
            return Err(KvCacheError::PageSize);
        }
        check_counts(n_pages, page_size)?;
        let (mut pages, mut free) = (reserve(n_pages)?, reserve(n_pages)?);
        pages.resize(n_pages, Page::default());
        free.extend((0..n_pages as u32).rev());
        Ok(Self {
            page_size,
            pages,
            free,
            sequences: BTreeMap::new(),
            next_id: 0,
            prefixes: PrefixIndex::new(hash),
        })
    }

    /// An empty sequence. Only sequences of the same salt can share cached prefixes.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::SequenceNumbers`] after `2^64 - 1` sequences.
    pub fn create(&mut self, salt: &[u8]) -> Result<SequenceId, KvCacheError> {
        let id = self.new_id()?;
        let sequence = Sequence {
            pages: Vec::new(),
            len: 0,
            salt: Arc::from(salt),
            intact: usize::MAX,
        };
        self.insert(id, sequence);
        Ok(id)
    }

    /// Makes each sequence longer by a number of tokens, or none of them.
    ///
    /// The new places are not written yet; do the copies first.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Sequence`] if there is no such sequence, [`KvCacheError::Repeated`] if it is named twice.
    /// - [`KvCacheError::PoolExhausted`] if too few pages are free or only cached.
    /// - [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn grow(&mut self, by: &[(SequenceId, usize)]) -> Result<Vec<PageCopy>, KvCacheError> {
        let mut named = BTreeSet::new();
        let mut tails: BTreeMap<u32, usize> = BTreeMap::new();
        let mut needed = 0_usize;
        for &(id, n) in by {
            let sequence = self.sequence(id)?;
            if !named.insert(id) {
                return Err(KvCacheError::Repeated { id: id.0 });
            }
            let n_pages = sequence.len.saturating_add(n).div_ceil(self.page_size);
            needed = needed.saturating_add(n_pages - sequence.pages.len());
            if n > 0
                && let Some(page) = self.tail(sequence)
            {
                *tails.entry(page).or_default() += 1;
            }
        }
        // Of those that write into one page, the last may keep it if nobody else reads it.
        for (page, writers) in tails {
            let others = self.pages[page as usize].references - writers;
            needed = needed.saturating_add(if others > 0 { writers } else { writers - 1 });
        }
        self.check_available(needed)?;
        let mut copies = reserve(by.len())?;
        for &(id, n) in by {
            if let Some(sequence) = self.sequences.get_mut(&id.0) {
                let n_pages = (sequence.len + n).div_ceil(self.page_size);
                let new = n_pages - sequence.pages.len();
                sequence
                    .pages
                    .try_reserve(new)
                    .map_err(|_| KvCacheError::Allocation {
                        bytes: new.saturating_mul(size_of::<u32>()),
                    })?;
            }
        }
        for &(id, n) in by {
            copies.extend(self.grow_one(id, n));
        }
        Ok(copies)
    }

    /// One sequence for which there are pages.
    fn grow_one(&mut self, id: SequenceId, n: usize) -> Option<PageCopy> {
        let sequence = self.sequences.get(&id.0)?;
        let (len, held) = (sequence.len, sequence.pages.len());
        let tail = self.tail(sequence).filter(|_| n > 0);
        let mut copy = None;
        if let Some(from) = tail {
            if self.pages[from as usize].references > 1 {
                let to = self.take()?;
                self.release(from);
                self.sequences.get_mut(&id.0)?.pages[held - 1] = to;
                copy = Some(PageCopy { from, to });
            } else {
                self.unpublish(from);
            }
        }
        let n_pages = (len + n).div_ceil(self.page_size);
        for _ in held..n_pages {
            let page = self.take()?;
            self.sequences.get_mut(&id.0)?.pages.push(page);
        }
        self.sequences.get_mut(&id.0)?.len = len + n;
        copy
    }

    /// A new sequence with the tokens of another, whose pages it shares.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Sequence`], [`KvCacheError::SequenceNumbers`], and [`KvCacheError::Allocation`] for the
    /// list of pages.
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId, KvCacheError> {
        let copy = self.copy_of(id)?;
        let new = self.new_id()?;
        self.hold(&copy.pages);
        self.insert(new, copy);
        Ok(new)
    }

    /// Keeps the first `len` tokens of a sequence, as after a rejected guess.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Sequence`], and [`KvCacheError::SequenceCrop`] if it holds fewer.
    pub fn crop(&mut self, id: SequenceId, len: usize) -> Result<(), KvCacheError> {
        let held = self.sequence(id)?.len;
        if len > held {
            return Err(KvCacheError::SequenceCrop {
                id: id.0,
                len: held,
                got: len,
            });
        }
        let n_pages = len.div_ceil(self.page_size);
        let Some(sequence) = self.sequences.get_mut(&id.0) else {
            return Ok(());
        };
        sequence.len = len;
        if len <= sequence.intact {
            sequence.intact = usize::MAX;
        }
        let dropped = sequence.pages.split_off(n_pages);
        self.release_all(&dropped);
        Ok(())
    }

    /// Forgets a sequence; its pages go to whoever needs them, but for those that others hold.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Sequence`] if there is no such sequence, or no longer.
    pub fn free(&mut self, id: SequenceId) -> Result<(), KvCacheError> {
        let sequence = self.sequences.remove(&id.0).ok_or(unknown(id))?;
        self.release_all(&sequence.pages);
        Ok(())
    }

    /// Replaces sequence `ids[i]` by what sequence `sources[i]` was: the survivors of a beam search.
    ///
    /// No key is copied, and no page is needed. A sequence keeps its salt, so that what it says later is published
    /// for those who may find it; so it can only become one of the same salt.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::ReorderLen`] if there is not one source for each.
    /// - [`KvCacheError::Sequence`], [`KvCacheError::Repeated`] if one of `ids` is named twice.
    /// - [`KvCacheError::Salts`] if a sequence and its source have different salts.
    /// - [`KvCacheError::Allocation`] for the lists of pages.
    pub fn reorder(
        &mut self,
        ids: &[SequenceId],
        sources: &[SequenceId],
    ) -> Result<(), KvCacheError> {
        token::check_sources(ids.len(), sources.len())?;
        let mut named = BTreeSet::new();
        for &id in ids {
            self.sequence(id)?;
            if !named.insert(id) {
                return Err(KvCacheError::Repeated { id: id.0 });
            }
        }
        for (&id, &source) in ids.iter().zip(sources) {
            if self.sequence(id)?.salt != self.sequence(source)?.salt {
                return Err(KvCacheError::Salts {
                    id: id.0,
                    from: source.0,
                });
            }
        }
        let new = sources.iter().map(|&id| self.copy_of(id));
        let new: Vec<Sequence> = new.collect::<Result<_, _>>()?;
        // Held first, so that nothing that is still wanted becomes free in between.
        for sequence in &new {
            self.hold(&sequence.pages);
        }
        for (id, sequence) in ids.iter().zip(new) {
            if let Some(old) = self.sequences.insert(id.0, sequence) {
                self.release_all(&old.pages);
            }
        }
        Ok(())
    }

    /// The pages of some sequences, as attention reads them.
    ///
    /// # Shapes
    ///
    /// - returns: `block_table` `[batch, max_pages]`, where `max_pages` is what the longest needs and what is
    ///   behind a sequence's pages is 0, and `lengths` `[batch]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Sequence`], and [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn block_table(
        &self,
        ids: &[SequenceId],
    ) -> Result<(Array2<u32>, Array1<u32>), KvCacheError> {
        let mut max_pages = 0;
        for &id in ids {
            max_pages = max_pages.max(self.sequence(id)?.pages.len());
        }
        let n = ids
            .len()
            .checked_mul(max_pages)
            .ok_or(KvCacheError::Allocation { bytes: usize::MAX })?;
        let mut table: Vec<u32> = reserve(n)?;
        let mut lengths = reserve(ids.len())?;
        for &id in ids {
            let sequence = self.sequence(id)?;
            table.extend(&sequence.pages);
            table.resize(table.len() + max_pages - sequence.pages.len(), 0);
            lengths.push(sequence.len as u32); // below 2^32 by construction
        }
        let table = Array2::from_shape_vec((ids.len(), max_pages), table)
            .map_err(|_| KvCacheError::Allocation { bytes: n })?;
        Ok((table, Array1::from_vec(lengths)))
    }

    /// Refuses a call that takes more pages than there are.
    fn check_available(&self, needed: usize) -> Result<(), KvCacheError> {
        let available = self.n_available();
        if needed > available {
            return Err(KvCacheError::PoolExhausted {
                needed,
                available,
                n_pages: self.n_pages(),
            });
        }
        Ok(())
    }

    /// The last page of a sequence, if it has places left.
    fn tail(&self, sequence: &Sequence) -> Option<u32> {
        let has_room = !sequence.len.is_multiple_of(self.page_size);
        sequence.pages.last().copied().filter(|_| has_room)
    }

    fn copy_of(&self, id: SequenceId) -> Result<Sequence, KvCacheError> {
        let sequence = self.sequence(id)?;
        let mut pages = reserve(sequence.pages.len())?;
        pages.extend_from_slice(&sequence.pages);
        Ok(Sequence {
            pages,
            salt: Arc::clone(&sequence.salt),
            ..*sequence
        })
    }

    /// The number of the next sequence, as long as there is one.
    fn new_id(&self) -> Result<SequenceId, KvCacheError> {
        match self.next_id {
            u64::MAX => Err(KvCacheError::SequenceNumbers),
            id => Ok(SequenceId(id)),
        }
    }

    /// Adds a sequence under its [`new_id`](Self::new_id).
    fn insert(&mut self, id: SequenceId, sequence: Sequence) {
        self.next_id = id.0 + 1;
        self.sequences.insert(id.0, sequence);
    }

    fn sequence(&self, id: SequenceId) -> Result<&Sequence, KvCacheError> {
        self.sequences.get(&id.0).ok_or(unknown(id))
    }
}

fn unknown(id: SequenceId) -> KvCacheError {
    KvCacheError::Sequence { id: id.0 }
}

/// Pages and tokens must be countable in 32 bits.
fn check_counts(n_pages: usize, page_size: usize) -> Result<(), KvCacheError> {
    n_pages
        .checked_mul(page_size)
        .filter(|&n| u32::try_from(n).is_ok())
        .map(|_| ())
        .ok_or(KvCacheError::Size {
            axes: [n_pages, page_size, 1, 1],
            element_bytes: 1,
        })
}
