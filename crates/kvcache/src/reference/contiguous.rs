//! A cache as a list of tokens.

/// Key and value of one token in all heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// `[kv_heads][head_dim]`
    pub key: Vec<Vec<f64>>,
    /// `[kv_heads][value_dim]`
    pub value: Vec<Vec<f64>>,
}

/// What a contiguous cache means: a list of tokens for each sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLists {
    /// The tokens of each sequence, oldest first.
    pub rows: Vec<Vec<Token>>,
    /// Tokens that a sequence can hold.
    pub capacity: usize,
}

impl TokenLists {
    /// `batch` empty sequences.
    #[must_use]
    pub fn new(batch: usize, capacity: usize) -> Self {
        Self {
            rows: vec![Vec::new(); batch],
            capacity,
        }
    }

    /// Adds tokens to a sequence; false, and no change, if they do not fit or there is no such row.
    pub fn append(&mut self, row: usize, tokens: &[Token]) -> bool {
        let capacity = self.capacity;
        match self.rows.get_mut(row) {
            Some(list) if list.len() + tokens.len() <= capacity => {
                list.extend_from_slice(tokens);
                true
            }
            _ => false,
        }
    }

    /// Adds `tokens[i]` to each sequence `i`; false, and no change, if one does not fit.
    pub fn append_all(&mut self, tokens: &[Vec<Token>]) -> bool {
        let before = self.clone();
        if tokens.len() != self.rows.len() {
            return false;
        }
        for (row, tokens) in tokens.iter().enumerate() {
            if !self.append(row, tokens) {
                *self = before;
                return false;
            }
        }
        true
    }

    /// Keeps the first `len` tokens; false, and no change, if there are fewer.
    pub fn crop(&mut self, row: usize, len: usize) -> bool {
        match self.rows.get_mut(row) {
            Some(list) if len <= list.len() => {
                list.truncate(len);
                true
            }
            _ => false,
        }
    }

    /// Makes a list of rows, any of them any number of times; `None` if one does not exist.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Option<Self> {
        let rows = rows
            .iter()
            .map(|&row| self.rows.get(row).cloned())
            .collect::<Option<_>>()?;
        Some(Self {
            rows,
            capacity: self.capacity,
        })
    }

    /// Empties all sequences.
    pub fn clear(&mut self) {
        self.rows.iter_mut().for_each(Vec::clear);
    }
}
