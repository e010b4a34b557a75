//! Text that ends where one of several strings comes.

use std::collections::VecDeque;

use super::TextStreamer;
use crate::SamplingError;

/// Any number of strings that are looked for at once.
///
/// An automaton of all their beginnings (Aho and Corasick 1975) reads each byte once, however many strings there are.
///
/// # Example
///
/// ```
/// use llm_sampling::stream::StopStrings;
///
/// let stops = StopStrings::new(&["</s>", "\n\n"])?;
/// assert_eq!(stops.len(), 2);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopStrings {
    nodes: Vec<Node>,
    lens: Vec<usize>,
}

/// A beginning of a stop string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// Bytes that go on, in ascending order, with the nodes that they lead to.
    next: Vec<(u8, u32)>,
    /// The longest end of this beginning that is a beginning too.
    fail: u32,
    /// Bytes from the start.
    depth: usize,
    /// The longest stop string that this beginning ends with.
    found: Option<usize>,
}

const ROOT: usize = 0;

impl StopStrings {
    /// Compiles the strings. None at all never stops; of equal ones, the first is reported.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::EmptyStopString`] if one is empty.
    /// - [`SamplingError::StopStringsLen`] if they have `2^32` bytes or more.
    pub fn new<S: AsRef<str>>(strings: &[S]) -> Result<Self, SamplingError> {
        let total: usize = strings.iter().map(|string| string.as_ref().len()).sum();
        if total as u64 >= u64::from(u32::MAX) {
            return Err(SamplingError::StopStringsLen(total));
        }
        let mut stops = Self {
            nodes: vec![Node::default()],
            lens: Vec::with_capacity(strings.len()),
        };
        for (i, string) in strings.iter().enumerate() {
            let string = string.as_ref();
            if string.is_empty() {
                return Err(SamplingError::EmptyStopString(i));
            }
            stops.lens.push(string.len());
            let mut node = ROOT;
            for &byte in string.as_bytes() {
                node = stops.child_or_new(node, byte);
            }
            stops.nodes[node].found.get_or_insert(i);
        }
        stops.link();
        Ok(stops)
    }

    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let next = &self.nodes[node].next;
        let at = next.binary_search_by_key(&byte, |(byte, _)| *byte).ok()?;
        Some(next[at].1 as usize)
    }

    fn child_or_new(&mut self, node: usize, byte: u8) -> usize {
        if let Some(child) = self.child(node, byte) {
            return child;
        }
        let child = self.nodes.len();
        let depth = self.nodes[node].depth + 1;
        self.nodes.push(Node {
            depth,
            ..Node::default()
        });
        let next = &mut self.nodes[node].next;
        let at = next.partition_point(|(other, _)| *other < byte);
        next.insert(at, (byte, child as u32)); // fewer than 2^32 bytes
        child
    }

    /// Sets where to go on when a beginning does not, shorter ones first.
    fn link(&mut self) {
        let mut queue = VecDeque::from([ROOT]);
        while let Some(node) = queue.pop_front() {
            for i in 0..self.nodes[node].next.len() {
                let (byte, child) = self.nodes[node].next[i];
                let child = child as usize;
                let fail = if node == ROOT {
                    ROOT
                } else {
                    self.step(self.nodes[node].fail as usize, byte)
                };
                self.nodes[child].fail = fail as u32;
                // Its own string is longer than any that it ends with.
                let inherited = self.nodes[fail].found;
                let found = &mut self.nodes[child].found;
                *found = found.or(inherited);
                queue.push_back(child);
            }
        }
    }

    /// The longest beginning that the text ends with, after another byte.
    fn step(&self, mut node: usize, byte: u8) -> usize {
        loop {
            if let Some(child) = self.child(node, byte) {
                return child;
            }
            if node == ROOT {
                return ROOT;
            }
            node = self.nodes[node].fail as usize;
        }
    }
}

/// What becomes of the stop string itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopText {
    /// It is left out, as in OpenAI's interface.
    Drop,
    /// It is the end of the text, as in transformers.
    Include,
}

/// Hands out text in whole characters, up to the first stop string.
///
/// Text that may be the beginning of a stop string waits until it is clear whether it is one; nothing else waits. The first stop string to be
/// complete ends the text; of those that end together, the longest. What follows is dropped.
///
/// # Example
///
/// ```
/// use llm_sampling::stream::{StopStreamer, StopStrings, StopText};
///
/// let stops = StopStrings::new(&["</end>"])?;
/// let mut streamer = StopStreamer::new(stops, StopText::Drop);
/// assert_eq!(streamer.push(b"a < b"), "a < b"); // "< b" begins no stop string
/// assert_eq!(streamer.push(b"!</e"), "!");
/// assert_eq!(streamer.push(b"nd> and more"), "");
/// assert_eq!(streamer.stopped(), Some(0));
/// assert_eq!(streamer.finish(), "");
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopStreamer {
    stops: StopStrings,
    stop_text: StopText,
    text: TextStreamer,
    /// The longest beginning of a stop string that the text so far ends with.
    node: usize,
    /// The same as text, from `start` on.
    held: String,
    start: usize,
    stopped: Option<usize>,
}

impl StopStreamer {
    /// A streamer at the beginning of a text.
    #[must_use]
    pub const fn new(stops: StopStrings, stop_text: StopText) -> Self {
        Self {
            stops,
            stop_text,
            text: TextStreamer::new(),
            node: ROOT,
            held: String::new(),
            start: 0,
            stopped: None,
        }
    }

    /// Takes the bytes of a token and returns the text that is clear now, perhaps none. After a stop string there is no more.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        let text = self.text.push(bytes);
        self.take(&text)
    }

    /// Ends the text: what still waits was no stop string.
    pub fn finish(&mut self) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        let rest = self.text.finish();
        let mut text = self.take(&rest);
        self.node = ROOT;
        text.push_str(self.held());
        self.held.clear();
        self.start = 0;
        text
    }

    /// Index of the stop string that ended the text.
    #[must_use]
    pub const fn stopped(&self) -> Option<usize> {
        self.stopped
    }

    /// Text that waits because a stop string may begin with it. Bytes of a character that is not whole yet are not among it.
    #[must_use]
    pub fn held(&self) -> &str {
        &self.held[self.start..]
    }

    fn take(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let new = self.held.len() - text.len();
        for (i, &byte) in text.as_bytes().iter().enumerate() {
            self.node = self.stops.step(self.node, byte);
            let Some(found) = self.stops.nodes[self.node].found else {
                continue;
            };
            self.stopped = Some(found);
            let end = new + i + 1;
            let len = match self.stop_text {
                StopText::Drop => end - self.stops.lens[found],
                StopText::Include => end,
            };
            let text = self.held[self.start..len].to_owned();
            self.held.clear();
            self.start = 0;
            return text;
        }
        // A beginning of whole characters: it is part of a valid string and ends where a character does.
        let clear = self.held.len() - self.stops.nodes[self.node].depth;
        let text = self.held[self.start..clear].to_owned();
        self.start = clear;
        if self.start > self.held.len() / 2 {
            // Moves fewer bytes than were handed out since the last time.
            self.held.drain(..self.start);
            self.start = 0;
        }
        text
    }
}
