//! The bytes of each token, sorted so that tokens which begin alike are looked at once.

use core::fmt;
use std::sync::Arc;

use super::GrammarError;
use crate::{SamplingError, rows};

/// What each token stands for: bytes of text, the end of a sequence, or nothing that a text has.
///
/// Tokens are bytes and not strings, as one may hold a part of a character only. Copies share their memory.
///
/// # Example
///
/// ```
/// use llm_sampling::grammar::Vocabulary;
///
/// // Id 2 is the second byte of "é" alone, id 3 ends a sequence, id 4 is a mark of the chat format.
/// let tokens: [&[u8]; 5] = [b"a", "é".as_bytes(), &[0xA9], b"<eos>", b"<user>"];
/// let vocabulary = Vocabulary::new(&tokens, &[3], &[4])?;
/// assert_eq!(vocabulary.len(), 5);
/// assert_eq!(vocabulary.text(1), "é".as_bytes());
/// assert_eq!(vocabulary.text(4), b""); // no text may have it
/// assert!(vocabulary.is_end(3));
/// # Ok::<(), llm_sampling::grammar::GrammarError>(())
/// ```
#[derive(Clone)]
pub struct Vocabulary {
    inner: Arc<Inner>,
}

struct Inner {
    /// The texts of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where the text of each token begins, and the end.
    starts: Vec<u32>,
    /// Ascending, each once.
    end_ids: Vec<u32>,
    /// The trie of the texts: each node before those below it, these in the order of their bytes.
    nodes: Vec<Node>,
    /// The tokens with a text, in the order of the nodes that they end at.
    ids: Vec<u32>,
    max_len: usize,
}

/// A text that some token begins with.
#[derive(Clone, Copy)]
struct Node {
    /// The node after the last below this one.
    end: u32,
    /// In the list of ids, the first token with this text; the next node tells where they end.
    first: u32,
    /// Bytes before the last.
    depth: u32,
    /// The last byte.
    byte: u8,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("len", &self.len())
            .field("end_ids", &self.inner.end_ids)
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// The token with id `i` stands for the bytes `tokens[i]`.
    ///
    /// Whatever their bytes: `end_ids` end a sequence, and `special_ids` never match text, just as tokens without bytes. A token in both lists
    /// ends a sequence. There may be no end ids; then a text ends where the caller stops.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[vocab]`
    ///
    /// # Errors
    ///
    /// - [`GrammarError::Sampling`] with [`SamplingError::Vocab`] if there are no tokens or more than 2^32.
    /// - The same with [`SamplingError::TokenId`] if one of the lists has an id that is not below `vocab`.
    /// - [`GrammarError::VocabularyBytes`] if the tokens have 2^32 bytes or more in all.
    pub fn new<T: AsRef<[u8]>>(
        tokens: &[T],
        end_ids: &[u32],
        special_ids: &[u32],
    ) -> Result<Self, GrammarError> {
        let vocab = tokens.len();
        rows::check_vocab(vocab)?;
        let mut has_text = vec![true; vocab];
        for &token in end_ids.iter().chain(special_ids) {
            *has_text
                .get_mut(token as usize)
                .ok_or(SamplingError::TokenId { token, vocab })? = false;
        }
        let total = tokens.iter().try_fold(0_usize, |total, token| {
            let total = total.saturating_add(token.as_ref().len());
            let fits = u32::try_from(total).is_ok();
            fits.then_some(total)
                .ok_or(GrammarError::VocabularyBytes(total))
        })?;
        let (mut bytes, mut starts) = (Vec::with_capacity(total), Vec::with_capacity(vocab + 1));
        for (token, has_text) in tokens.iter().zip(has_text) {
            starts.push(bytes.len() as u32); // the total fits
            if has_text {
                bytes.extend_from_slice(token.as_ref());
            }
        }
        starts.push(bytes.len() as u32);
        let mut end_ids = end_ids.to_vec();
        end_ids.sort_unstable();
        end_ids.dedup();
        let mut inner = Inner {
            bytes,
            starts,
            end_ids,
            nodes: Vec::new(),
            ids: Vec::new(),
            max_len: 0,
        };
        inner.sort();
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Number of token ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.starts.len() - 1
    }

    /// False: there is at least one token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that a token adds to a text; none if it cannot be part of one, or if there is no such id.
    #[must_use]
    pub fn text(&self, token: u32) -> &[u8] {
        self.inner.text(token)
    }

    /// True if the token ends a sequence.
    #[must_use]
    pub fn is_end(&self, token: u32) -> bool {
        self.inner.end_ids.binary_search(&token).is_ok()
    }

    /// The tokens that end a sequence, ascending.
    #[must_use]
    pub fn end_ids(&self) -> &[u32] {
        &self.inner.end_ids
    }

    /// For each byte, whether there is a token of that byte alone.
    pub(super) fn single_bytes(&self) -> [bool; 256] {
        let mut single = [false; 256];
        for (i, node) in self.inner.nodes.iter().enumerate() {
            single[usize::from(node.byte)] |= node.depth == 0 && !self.inner.tokens(i).is_empty();
        }
        single
    }

    /// Follows the texts of all tokens from a state, and calls `found` with where they lead and the tokens that lead there; it may stop the
    /// walk by returning false.
    ///
    /// `step` gives the state after a byte, or nothing if no text goes on so. `states` is memory to work in.
    pub(super) fn walk(
        &self,
        start: u32,
        states: &mut Vec<u32>,
        step: impl Fn(u32, u8) -> Option<u32>,
        mut found: impl FnMut(u32, &[u32]) -> bool,
    ) {
        let inner = &*self.inner;
        states.clear();
        states.resize(inner.max_len + 1, start);
        let mut i = 0;
        while let Some(node) = inner.nodes.get(i) {
            let depth = node.depth as usize;
            let Some(state) = step(states[depth], node.byte) else {
                i = node.end as usize;
                continue;
            };
            states[depth + 1] = state;
            let tokens = inner.tokens(i);
            if !tokens.is_empty() && !found(state, tokens) {
                return;
            }
            i += 1;
        }
    }
}

impl Inner {
    fn text(&self, token: u32) -> &[u8] {
        let token = token as usize;
        match self.starts.get(token..token.saturating_add(2)) {
            Some(&[start, end]) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// The tokens whose whole text is that of a node.
    fn tokens(&self, node: usize) -> &[u32] {
        let next = self.nodes.get(node + 1);
        let end = next.map_or(self.ids.len(), |next| next.first as usize);
        &self.ids[self.nodes[node].first as usize..end]
    }

    /// Makes the trie.
    fn sort(&mut self) {
        let vocab = self.starts.len() - 1;
        let mut ids: Vec<u32> = (0..vocab).map(|id| id as u32).collect(); // at most 2^32
        ids.retain(|&id| !self.text(id).is_empty());
        ids.sort_by(|&a, &b| self.text(a).cmp(self.text(b)));
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<usize> = Vec::new(); // the nodes from the root to the newest
        for (i, &id) in ids.iter().enumerate() {
            let text = self.text(id);
            let last = i.checked_sub(1).map_or(&[][..], |i| self.text(ids[i]));
            let common = text.iter().zip(last).take_while(|(a, b)| a == b).count();
            for node in open.drain(common..) {
                nodes[node].end = nodes.len() as u32; // as many nodes as bytes at most
            }
            for (depth, &byte) in text.iter().enumerate().skip(common) {
                open.push(nodes.len());
                nodes.push(Node {
                    end: 0,
                    first: i as u32,
                    depth: depth as u32,
                    byte,
                });
            }
        }
        for node in open {
            nodes[node].end = nodes.len() as u32;
        }
        self.max_len = ids.iter().map(|&id| self.text(id).len()).max().unwrap_or(0);
        self.nodes = nodes;
        self.ids = ids;
    }
}
