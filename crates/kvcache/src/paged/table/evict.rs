//! Tokens in the middle of a sequence go: what an eviction policy does not keep.

use super::{PageTable, SequenceId, TokenMove};
use crate::KvCacheError;
use crate::memory::reserve;

impl PageTable {
    /// Keeps the tokens at some indices of a sequence, and returns what must be moved for it.
    ///
    /// Token `keep[i]` becomes token `i`. Pages that others hold are not touched: the sequence
    /// gets pages of its own for what moves. From the first dropped token on, the keys of the
    /// sequence are no longer those of its tokens alone, so that part is never published.
    ///
    /// # Shapes
    ///
    /// - `keep`: rising indices below the length of the sequence
    /// - returns: moves to do in their order, in all layers, before anything else is written
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Sequence`] if there is no such sequence.
    /// - [`KvCacheError::Keep`] if the indices do not rise, or are beyond its end.
    /// - [`KvCacheError::PoolExhausted`] if too few pages are free or only cached.
    /// - [`KvCacheError::Allocation`] for the list.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_kvcache::paged::{PageTable, TokenMove};
    ///
    /// let mut table = PageTable::new(2, 2)?;
    /// let a = table.create(b"")?;
    /// table.grow(&[(a, 4)])?; // pages 0 and 1
    /// let moves = table.retain(a, &[0, 3])?;
    /// assert_eq!(moves, [TokenMove { from: (1, 1), to: (0, 1) }]);
    /// assert_eq!((table.len(a)?, table.n_free()), (2, 1));
    /// # Ok::<(), llm_kvcache::KvCacheError>(())
    /// ```
    pub fn retain(
        &mut self,
        id: SequenceId,
        keep: &[usize],
    ) -> Result<Vec<TokenMove>, KvCacheError> {
        let sequence = self.sequence(id)?;
        let len = sequence.len;
        let mut least = 0;
        for (place, &got) in keep.iter().enumerate() {
            if got < least || got >= len {
                return Err(KvCacheError::Keep {
                    place,
                    least,
                    len,
                    got,
                });
            }
            least = got + 1;
        }
        let page_size = self.page_size;
        let same = (keep.iter().enumerate()).take_while(|&(i, &token)| i == token);
        let same = same.count();
        let moving = if same == keep.len() {
            keep.len()..keep.len()
        } else {
            same / page_size * page_size..keep.len()
        };
        let held = sequence.pages.clone();
        let own = |index: usize| self.pages[held[index] as usize].references == 1;
        let targets = moving.start.div_ceil(page_size)..moving.end.div_ceil(page_size);
        let fresh = targets.clone().filter(|&index| !own(index)).count();
        self.check_available(fresh)?;
        let mut moves = reserve(moving.len())?;

        let mut pages = held.clone();
        for index in targets {
            if own_now(self, held[index]) {
                self.unpublish(held[index]);
            } else if let Some(page) = self.take() {
                pages[index] = page;
            }
        }
        for token in moving {
            let place = |pages: &[u32], token: usize| (pages[token / page_size], token % page_size);
            let (from, to) = (place(&held, keep[token]), place(&pages, token));
            if from != to {
                moves.push(TokenMove { from, to });
            }
        }
        let n_pages = keep.len().div_ceil(page_size);
        // The last first: as when a sequence is freed.
        for index in (0..held.len()).rev() {
            if index >= n_pages || pages[index] != held[index] {
                self.release(held[index]);
            }
        }
        pages.truncate(n_pages);
        if let Some(sequence) = self.sequences.get_mut(&id.0) {
            sequence.pages = pages;
            sequence.len = keep.len();
            if keep.len() < len {
                sequence.intact = sequence.intact.min(same);
            }
            if keep.len() <= sequence.intact {
                sequence.intact = usize::MAX;
            }
        }
        Ok(moves)
    }
}

/// Whether one sequence alone holds a page.
fn own_now(table: &PageTable, page: u32) -> bool {
    table.references(page) == 1
}
