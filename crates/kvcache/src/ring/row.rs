//! Which tokens a row of a ring holds: numbers only.

use crate::KvCacheError;

/// A row holds the tokens from `first` to before `seen`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) first: usize,
    pub(crate) seen: usize,
}

impl Row {
    /// Refuses more tokens than can be counted.
    pub(crate) fn check_append(self, row: usize, seq: usize) -> Result<(), KvCacheError> {
        // One more must be countable: the position of the next token's window is computed from it.
        if self.seen.checked_add(seq).is_none_or(|n| n == usize::MAX) {
            return Err(KvCacheError::Seen {
                row,
                seen: self.seen,
                seq,
            });
        }
        Ok(())
    }

    /// The first of `seq` new tokens that is written: of more than `capacity` only the last are.
    pub(crate) fn first_written(self, seq: usize, capacity: usize) -> usize {
        (self.seen + seq).saturating_sub(capacity).max(self.seen)
    }

    pub(crate) fn appended(self, seq: usize, capacity: usize) -> Self {
        let seen = self.seen + seq;
        Self {
            first: self.first.max(seen.saturating_sub(capacity)),
            seen,
        }
    }

    /// Refuses to take back what the window that is left would need.
    pub(crate) fn check_crop(
        self,
        row: usize,
        seen: usize,
        window: usize,
    ) -> Result<(), KvCacheError> {
        if seen > self.seen {
            return Err(KvCacheError::CropLen {
                row,
                len: self.seen,
                got: seen,
            });
        }
        let needed = (seen + 1).saturating_sub(window);
        // Where nothing is taken back, nothing new is missed either; nor where nothing is left to be seen.
        if seen < self.seen && needed < seen && needed < self.first {
            return Err(KvCacheError::CropLost {
                row,
                got: seen,
                needed,
                oldest: self.first,
            });
        }
        Ok(())
    }

    pub(crate) fn cropped(self, seen: usize) -> Self {
        Self {
            first: self.first.min(seen),
            seen,
        }
    }
}
