//! A sliding window, with or without sinks, as the list of all tokens ever seen of which some are lost.

/// What a ring, or sinks and a window, mean: all tokens of a sequence, `None` where one is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenTokens<T> {
    /// All tokens, oldest first.
    pub seen: Vec<Option<T>>,
    /// Leading tokens that stay.
    pub n_sinks: usize,
    /// Tokens behind the sinks that a query sees, its own included.
    pub window: usize,
    /// Tokens behind the sinks that can be held.
    pub capacity: usize,
}

impl<T: Clone> SeenTokens<T> {
    /// A sequence that has seen nothing.
    #[must_use]
    pub fn new(n_sinks: usize, window: usize, slack: usize) -> Self {
        Self {
            seen: Vec::new(),
            n_sinks,
            window,
            capacity: window + slack,
        }
    }

    // ANCHOR: push
    /// One token more; the one that is then too old is lost.
    pub fn push(&mut self, token: T) {
        self.seen.push(Some(token));
        let behind = self.seen.len().saturating_sub(self.n_sinks);
        if behind > self.capacity {
            let lost = self.n_sinks + behind - self.capacity - 1;
            self.seen[lost] = None;
        }
    }
    // ANCHOR_END: push

    /// Keeps the first `len` tokens; false, and no change, if there are fewer or if one is lost that
    /// the next query would see.
    pub fn crop(&mut self, len: usize) -> bool {
        if len > self.seen.len() {
            return false;
        }
        // The next token is number `len`: it sees the sinks, and `window - 1` tokens before it.
        let first = (len + 1).saturating_sub(self.window);
        let sees = |position: usize| position < self.n_sinks || position >= first;
        let is_lost = |position: usize| sees(position) && self.seen[position].is_none();
        if len < self.seen.len() && (0..len).any(is_lost) {
            return false;
        }
        self.seen.truncate(len);
        true
    }

    /// Positions and tokens that are held.
    #[must_use]
    pub fn held(&self) -> Vec<(usize, T)> {
        let held = self.seen.iter().enumerate();
        held.filter_map(|(position, token)| Some((position, token.clone()?)))
            .collect()
    }
}
