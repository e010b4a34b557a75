//! Which full page continues which prefix: a tree of entries that is found by a chain of hashes.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

/// How the prefix cache finds its entries. Hits compare tokens, so no hash can make one wrong.
///
/// ```text
/// h_0     = hash(key; salt)
/// h_(i+1) = hash(key; h_i, tokens of page i)
/// ```
///
/// With a secret key, nobody who chooses tokens can make lookups slow by collisions on purpose.
///
/// Source: the chain is that of vLLM's automatic prefix caching (0.11), the hash SipHash-1-3
/// (Aumasson and Bernstein 2012).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixHash {
    key: [u64; 2],
    is_constant: bool,
}

impl PrefixHash {
    /// SipHash-1-3 with a key.
    #[must_use]
    pub fn with_key(key: [u64; 2]) -> Self {
        Self {
            key,
            is_constant: false,
        }
    }

    /// All hashes are equal: right and slow. For tests of what happens when hashes collide.
    #[must_use]
    pub fn colliding() -> Self {
        Self {
            key: [0; 2],
            is_constant: true,
        }
    }

    /// The start of the chain of a salt.
    pub(super) fn root(self, salt: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(salt);
        self.end(&hasher)
    }

    /// The chain, a page further.
    pub(super) fn page(self, parent: u64, tokens: &[u32]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write_u64(parent);
        // Some at a time, since each write costs more than its bytes.
        for tokens in tokens.chunks(16) {
            let mut bytes = [0; 64];
            for (to, token) in bytes.chunks_exact_mut(4).zip(tokens) {
                to.copy_from_slice(&token.to_le_bytes());
            }
            hasher.write(&bytes[..4 * tokens.len()]);
        }
        self.end(&hasher)
    }

    fn end(self, hasher: &SipHasher13) -> u64 {
        if self.is_constant { 0 } else { hasher.finish() }
    }
}

/// What an entry continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// Nothing: it is the first page of a sequence with this salt.
    Salt(Arc<[u8]>),
    /// Another entry.
    Entry(u64),
}

/// A full page that a prefix may find.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) page: u32,
    pub(super) parent: Parent,
    pub(super) tokens: Box<[u32]>,
    hash: u64,
    children: Vec<u64>,
}

/// The entries, by number, by hash, and those that no sequence holds by when they were last held.
#[derive(Clone, Debug)]
pub(super) struct PrefixIndex {
    hash: PrefixHash,
    entries: BTreeMap<u64, Entry>,
    buckets: BTreeMap<u64, Vec<u64>>,
    idle: BTreeMap<u64, u32>,   // time → page
    stamps: BTreeMap<u32, u64>, // page → time
    next_entry: u64,
    now: u64,
}

impl PrefixIndex {
    pub(super) fn new(hash: PrefixHash) -> Self {
        Self {
            hash,
            entries: BTreeMap::new(),
            buckets: BTreeMap::new(),
            idle: BTreeMap::new(),
            stamps: BTreeMap::new(),
            next_entry: 0,
            now: 0,
        }
    }

    pub(super) fn hash(&self) -> PrefixHash {
        self.hash
    }

    pub(super) fn n_idle(&self) -> usize {
        self.idle.len()
    }

    /// All entries; parents come before those that continue them.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(&id, entry)| (id, entry))
    }

    /// Pages that no sequence holds, the one to go first in front.
    pub(super) fn idle(&self) -> impl Iterator<Item = u32> + '_ {
        self.idle.values().copied()
    }

    // ANCHOR: find
    /// The entry that continues `parent` with these tokens, if hash, parent and tokens are equal.
    pub(super) fn find(&self, hash: u64, parent: &Parent, tokens: &[u32]) -> Option<(u64, u32)> {
        self.buckets.get(&hash)?.iter().find_map(|id| {
            let entry = self.entries.get(id)?;
            (entry.parent == *parent && *entry.tokens == *tokens).then_some((*id, entry.page))
        })
    }
    // ANCHOR_END: find

    /// A new entry, which is not there yet; its page is held by a sequence.
    pub(super) fn insert(&mut self, hash: u64, parent: Parent, tokens: &[u32], page: u32) -> u64 {
        let id = self.next_entry;
        self.next_entry += 1;
        if let Parent::Entry(parent) = parent
            && let Some(parent) = self.entries.get_mut(&parent)
        {
            parent.children.push(id);
        }
        self.buckets.entry(hash).or_default().push(id);
        let entry = Entry {
            page,
            parent,
            tokens: tokens.into(),
            hash,
            children: Vec::new(),
        };
        self.entries.insert(id, entry);
        id
    }

    /// Takes out an entry and all that continue it; returns their pages.
    pub(super) fn remove(&mut self, id: u64) -> Vec<u32> {
        if let Some(Parent::Entry(parent)) = self.entries.get(&id).map(|entry| entry.parent.clone())
            && let Some(parent) = self.entries.get_mut(&parent)
        {
            parent.children.retain(|&child| child != id);
        }
        let (mut pages, mut left) = (Vec::new(), vec![id]);
        while let Some(id) = left.pop() {
            let Some(entry) = self.entries.remove(&id) else {
                continue;
            };
            if let Some(bucket) = self.buckets.get_mut(&entry.hash) {
                bucket.retain(|&other| other != id);
                if bucket.is_empty() {
                    self.buckets.remove(&entry.hash);
                }
            }
            self.wake(entry.page);
            pages.push(entry.page);
            left.extend(entry.children);
        }
        pages
    }

    /// No sequence holds the page any more: from now on it may go, after those that wait longer.
    pub(super) fn rest(&mut self, page: u32) {
        self.idle.insert(self.now, page);
        self.stamps.insert(page, self.now);
        self.now += 1;
    }

    /// A sequence holds the page again, or it leaves the cache.
    pub(super) fn wake(&mut self, page: u32) {
        if let Some(stamp) = self.stamps.remove(&page) {
            self.idle.remove(&stamp);
        }
    }

    /// The page that has waited longest.
    pub(super) fn oldest_idle(&self) -> Option<u32> {
        self.idle.values().next().copied()
    }

    /// Pages have got other numbers.
    pub(super) fn rename(&mut self, now: &[u32]) {
        let of = |page: u32| now.get(page as usize).copied().unwrap_or(page);
        for entry in self.entries.values_mut() {
            entry.page = of(entry.page);
        }
        for page in self.idle.values_mut() {
            *page = of(*page);
        }
        self.stamps = (self.stamps.iter().map(|(&page, &stamp)| (of(page), stamp))).collect();
    }
}
