//! What a table knows of its pages and sequences, and how pages change hands.

use super::{Page, PageCopy, PageTable, SequenceId, check_counts};
use crate::KvCacheError;
use crate::memory::reserve;

impl PageTable {
    /// Tokens of a page.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Pages of the pool.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// Pages that hold nothing.
    #[must_use]
    pub fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Pages that no sequence holds, but that a prefix may find again.
    #[must_use]
    pub fn n_cached(&self) -> usize {
        self.prefixes.n_idle()
    }

    /// Pages that a sequence can get: free ones and cached ones.
    #[must_use]
    pub fn n_available(&self) -> usize {
        self.n_free() + self.n_cached()
    }

    /// Sequences that hold a page; 0 too for a page that the pool does not have.
    #[must_use]
    pub fn references(&self, page: u32) -> usize {
        self.pages.get(page as usize).map_or(0, |p| p.references)
    }

    /// Whether a prefix may find a page.
    #[must_use]
    pub fn is_published(&self, page: u32) -> bool {
        (self.pages.get(page as usize)).is_some_and(|p| p.entry.is_some())
    }

    /// Number of sequences.
    #[must_use]
    pub fn n_sequences(&self) -> usize {
        self.sequences.len()
    }

    /// All sequences, oldest first.
    pub fn sequences(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.sequences.keys().map(|&id| SequenceId(id))
    }

    /// Tokens of a sequence.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Sequence`] if there is no such sequence.
    pub fn len(&self, id: SequenceId) -> Result<usize, KvCacheError> {
        Ok(self.sequence(id)?.len)
    }

    /// True if no sequence holds a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequences.values().all(|sequence| sequence.len == 0)
    }

    /// The pages of a sequence, in the order of its tokens.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Sequence`] if there is no such sequence.
    pub fn pages(&self, id: SequenceId) -> Result<&[u32], KvCacheError> {
        Ok(&self.sequence(id)?.pages)
    }

    /// What a sequence was created with.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Sequence`] if there is no such sequence.
    pub fn salt(&self, id: SequenceId) -> Result<&[u8], KvCacheError> {
        Ok(&self.sequence(id)?.salt)
    }

    /// Refuses to write tokens `start .. end` of a sequence where they are not its own.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Sequence`] if there is no such sequence.
    /// - [`KvCacheError::WriteRange`] if it does not hold the tokens.
    /// - [`KvCacheError::SharedPage`] if another sequence or the prefix cache has one of the pages.
    pub fn check_write(
        &self,
        id: SequenceId,
        start: usize,
        end: usize,
    ) -> Result<(), KvCacheError> {
        let sequence = self.sequence(id)?;
        if start > end || end > sequence.len {
            return Err(KvCacheError::WriteRange {
                id: id.0,
                len: sequence.len,
                start,
                end,
            });
        }
        if start == end {
            return Ok(());
        }
        for &page in &sequence.pages[start / self.page_size..end.div_ceil(self.page_size)] {
            let state = self.pages[page as usize];
            if state.references > 1 || state.entry.is_some() {
                return Err(KvCacheError::SharedPage { id: id.0, page });
            }
        }
        Ok(())
    }

    /// Moves pages so that those that hold something are the first of the pool.
    ///
    /// # Shapes
    ///
    /// - returns: the copies to do, in any order; no page is in two of them
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Allocation`] for the list.
    pub fn compact(&mut self) -> Result<Vec<PageCopy>, KvCacheError> {
        let n_live = self.n_pages() - self.n_free();
        let mut gaps: Vec<u32> = reserve(self.free.len())?;
        gaps.extend(self.free.iter().filter(|&&page| (page as usize) < n_live));
        gaps.sort_unstable();
        let is_live = |page: &Page| page.references > 0 || page.entry.is_some();
        let mut moved = reserve(gaps.len())?;
        let late = self.pages.iter().enumerate().skip(n_live);
        let late = late.filter(|(_, page)| is_live(page));
        for ((from, _), &to) in late.zip(&gaps) {
            moved.push(PageCopy {
                from: from as u32,
                to,
            });
        }
        let mut now: Vec<u32> = reserve(self.n_pages())?;
        now.extend(0..self.n_pages() as u32);
        for copy in &moved {
            now[copy.from as usize] = copy.to;
            self.pages.swap(copy.from as usize, copy.to as usize);
        }
        for sequence in self.sequences.values_mut() {
            for page in &mut sequence.pages {
                *page = now[*page as usize];
            }
        }
        self.prefixes.rename(&now);
        self.free.clear();
        self.free
            .extend((n_live as u32..self.n_pages() as u32).rev());
        Ok(moved)
    }

    /// Gives the pool another number of pages: more, or fewer if the last ones are free.
    ///
    /// After [`compact`](Self::compact) all free pages are the last ones.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Size`] as in [`new`](Self::new).
    /// - [`KvCacheError::PagesHeld`] if one of the pages to give up is not free.
    /// - [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn resize(&mut self, n_pages: usize) -> Result<(), KvCacheError> {
        check_counts(n_pages, self.page_size)?;
        let old = self.n_pages();
        let free: usize = (self.free.iter())
            .filter(|&&page| page as usize >= n_pages)
            .count();
        if n_pages < old && free < old - n_pages {
            return Err(KvCacheError::PagesHeld {
                needed: old - n_pages,
                free,
                n_pages: old,
            });
        }
        let more = n_pages.saturating_sub(old);
        let refused = |_| KvCacheError::Allocation {
            bytes: more.saturating_mul(size_of::<Page>()),
        };
        self.pages.try_reserve(more).map_err(refused)?;
        self.free.try_reserve(more).map_err(refused)?;
        self.pages.resize(n_pages, Page::default());
        self.free.retain(|&page| (page as usize) < n_pages);
        // New pages are taken last.
        self.free
            .splice(0..0, (old as u32..n_pages.max(old) as u32).rev());
        Ok(())
    }

    /// One more holder of each page.
    pub(super) fn hold(&mut self, pages: &[u32]) {
        for &page in pages {
            let state = &mut self.pages[page as usize];
            state.references += 1;
            if state.references == 1 && state.entry.is_some() {
                self.prefixes.wake(page);
            }
        }
    }

    /// A page for one holder: a free one, or the one whose prefix nobody has wanted for longest.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free.is_empty()
            && let Some(page) = self.prefixes.oldest_idle()
        {
            self.unpublish(page);
        }
        let page = self.free.pop()?;
        self.pages[page as usize].references = 1;
        Some(page)
    }

    /// One holder fewer; without any, the page is free or cached.
    pub(super) fn release(&mut self, page: u32) {
        let state = &mut self.pages[page as usize];
        state.references -= 1;
        if state.references > 0 {
            return;
        }
        match state.entry {
            Some(_) => self.prefixes.rest(page),
            None => self.free.push(page),
        }
    }

    /// Releases the pages of a sequence, the last first: so the end of a cached prefix goes before its start.
    pub(super) fn release_all(&mut self, pages: &[u32]) {
        for &page in pages.iter().rev() {
            self.release(page);
        }
    }

    /// Takes a page and those that continue it out of the prefix cache; those without a holder are free then.
    pub(super) fn unpublish(&mut self, page: u32) {
        let Some(entry) = self.pages[page as usize].entry else {
            return;
        };
        for page in self.prefixes.remove(entry) {
            let state = &mut self.pages[page as usize];
            state.entry = None;
            if state.references == 0 {
                self.free.push(page);
            }
        }
    }
}
