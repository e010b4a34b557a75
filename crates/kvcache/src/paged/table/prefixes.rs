//! Prefixes that were computed before are found again, by those who may.

use std::sync::Arc;

use super::{PageTable, Sequence, SequenceId, unknown};
use crate::KvCacheError;
use crate::paged::prefix::Parent;

impl PageTable {
    /// A new sequence that begins with the longest cached prefix of some tokens; and how many of them it has.
    ///
    /// Only full pages are found, and only those that sequences of the same salt published after
    /// the same tokens from the very first on. Tokens are compared, not only their hashes.
    /// Usually a caller leaves out the last token, since it needs the output for it.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::SequenceNumbers`] after `2^64 - 1` sequences.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_kvcache::paged::PageTable;
    ///
    /// let mut table = PageTable::new(8, 2)?;
    /// let a = table.create(b"tenant 1")?;
    /// table.grow(&[(a, 5)])?;
    /// table.publish(a, &[10, 11, 12, 13, 14])?; // two full pages
    ///
    /// let (b, found) = table.create_with_prefix(b"tenant 1", &[10, 11, 12, 13, 99])?;
    /// assert_eq!((found, table.pages(b)?), (4, &table.pages(a)?[..2]));
    /// let (_, found) = table.create_with_prefix(b"tenant 2", &[10, 11, 12, 13, 99])?;
    /// assert_eq!(found, 0);
    /// # Ok::<(), llm_kvcache::KvCacheError>(())
    /// ```
    ///
    /// Source: vLLM's automatic prefix caching (0.11), with the salt as in its `cache_salt`.
    pub fn create_with_prefix(
        &mut self,
        salt: &[u8],
        tokens: &[u32],
    ) -> Result<(SequenceId, usize), KvCacheError> {
        let id = self.new_id()?;
        let salt: Arc<[u8]> = Arc::from(salt);
        let pages: Vec<u32> = self.hits(&salt, tokens).collect();
        self.hold(&pages);
        let len = pages.len() * self.page_size;
        let sequence = Sequence {
            pages,
            len,
            salt,
            intact: usize::MAX,
        };
        self.insert(id, sequence);
        Ok((id, len))
    }

    /// How many of some tokens [`create_with_prefix`](Self::create_with_prefix) would find.
    #[must_use]
    pub fn cached_tokens(&self, salt: &[u8], tokens: &[u32]) -> usize {
        self.hits(&Arc::from(salt), tokens).count() * self.page_size
    }

    /// Puts the full pages of a sequence into the prefix cache, and returns how many of them are new there.
    ///
    /// What was published already stays as it was; of equal pages the first one counts. The pages
    /// are read-only from now on. Keys must depend on the tokens alone: the same model, the same
    /// positions. What else they depend on (an adapter, an image) belongs into the salt.
    ///
    /// # Shapes
    ///
    /// - `tokens`: the ids of all tokens of the sequence
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Sequence`] if there is no such sequence.
    /// - [`KvCacheError::TokenIds`] if the ids are not as many as its tokens.
    pub fn publish(&mut self, id: SequenceId, tokens: &[u32]) -> Result<usize, KvCacheError> {
        let sequence = self.sequences.get(&id.0).ok_or(unknown(id))?;
        if tokens.len() != sequence.len {
            return Err(KvCacheError::TokenIds {
                id: id.0,
                len: sequence.len,
                got: tokens.len(),
            });
        }
        let hash = self.prefixes.hash();
        let intact = &tokens[..tokens.len().min(sequence.intact)];
        let mut parent = Parent::Salt(Arc::clone(&sequence.salt));
        let mut chain = hash.root(&sequence.salt);
        let mut published = 0;
        for (tokens, &page) in intact.chunks_exact(self.page_size).zip(&sequence.pages) {
            chain = hash.page(chain, tokens);
            let entry = match self.prefixes.find(chain, &parent, tokens) {
                Some((entry, _)) => entry,
                // The page is another prefix already: possible only if ids were given that are not its own.
                None if self.pages[page as usize].entry.is_some() => break,
                None => {
                    let entry = self.prefixes.insert(chain, parent, tokens, page);
                    self.pages[page as usize].entry = Some(entry);
                    published += 1;
                    entry
                }
            };
            parent = Parent::Entry(entry);
        }
        Ok(published)
    }

    /// Empties the prefix cache. Sequences keep what they hold.
    pub fn forget_prefixes(&mut self) {
        for page in 0..self.n_pages() as u32 {
            self.unpublish(page);
        }
    }

    /// The cached pages of the longest prefix.
    fn hits<'a>(&'a self, salt: &Arc<[u8]>, tokens: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let hash = self.prefixes.hash();
        let mut chain = hash.root(salt);
        let mut parent = Parent::Salt(Arc::clone(salt));
        tokens
            .chunks_exact(self.page_size)
            .map_while(move |tokens| {
                chain = hash.page(chain, tokens);
                let (entry, page) = self.prefixes.find(chain, &parent, tokens)?;
                parent = Parent::Entry(entry);
                Some(page)
            })
    }
}
