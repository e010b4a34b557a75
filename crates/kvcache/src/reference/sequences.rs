//! A pool as lists of tokens, one for each sequence: sharing is copying.

use std::collections::BTreeMap;

/// What a pool of pages means: lists of tokens by the number of their sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SequenceLists<T> {
    /// The tokens of each sequence, oldest first.
    pub lists: BTreeMap<u64, Vec<T>>,
}

impl<T: Clone> SequenceLists<T> {
    /// Adds tokens to a sequence; false, and no change, if there is none.
    pub fn append(&mut self, id: u64, tokens: &[T]) -> bool {
        match self.lists.get_mut(&id) {
            Some(list) => {
                list.extend_from_slice(tokens);
                true
            }
            None => false,
        }
    }

    /// Copies a sequence; false if there is none.
    pub fn fork(&mut self, id: u64, new: u64) -> bool {
        match self.lists.get(&id).cloned() {
            Some(list) => {
                self.lists.insert(new, list);
                true
            }
            None => false,
        }
    }

    /// Keeps the first `len` tokens; false, and no change, if there are fewer or no sequence.
    pub fn crop(&mut self, id: u64, len: usize) -> bool {
        match self.lists.get_mut(&id) {
            Some(list) if len <= list.len() => {
                list.truncate(len);
                true
            }
            _ => false,
        }
    }

    /// Keeps the tokens at rising indices; false, and no change, if they do not rise or are not there.
    pub fn retain(&mut self, id: u64, keep: &[usize]) -> bool {
        let Some(list) = self.lists.get_mut(&id) else {
            return false;
        };
        let rises = keep.windows(2).all(|pair| pair[0] < pair[1]);
        let kept: Option<Vec<T>> = keep.iter().map(|&i| list.get(i).cloned()).collect();
        match kept {
            Some(kept) if rises => {
                *list = kept;
                true
            }
            _ => false,
        }
    }

    /// Sequence `ids[i]` becomes a copy of `sources[i]`; false, and no change, if one is not there or `ids`
    /// names one twice.
    pub fn reorder(&mut self, ids: &[u64], sources: &[u64]) -> bool {
        let is_known = |id: &u64| self.lists.contains_key(id);
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        let is_plan = ids.len() == sources.len()
            && ids.iter().chain(sources).all(is_known)
            && sorted.windows(2).all(|pair| pair[0] != pair[1]);
        if is_plan {
            let before = self.clone();
            for (id, source) in ids.iter().zip(sources) {
                self.lists.insert(*id, before.lists[source].clone());
            }
        }
        is_plan
    }
}
