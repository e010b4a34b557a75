//! How much of its constraints a sequence has fulfilled.

use super::constrained::{Constraint, ConstraintRule};

/// The state of one beam.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Progress {
    done: Vec<bool>,
    /// The constraints that are not done: in the order in which they are tried.
    pending: Vec<usize>,
    current: Option<Current>,
}

/// The constraint that a sequence is in the middle of.
#[derive(Clone, Debug, PartialEq)]
struct Current {
    constraint: usize,
    /// The first tokens of an alternative, or of several.
    matched: Vec<u32>,
}

impl Progress {
    /// Nothing is fulfilled.
    pub(super) fn new(constraints: &[Constraint]) -> Self {
        Self {
            done: vec![false; constraints.len()],
            pending: (0..constraints.len()).collect(),
            current: None,
        }
    }

    /// Constraints that are not fulfilled.
    pub(super) fn unmet(&self) -> usize {
        self.done.iter().filter(|done| !**done).count()
    }

    /// The state after one more token; `before` are the generated tokens so far.
    pub(super) fn with(
        &self,
        before: &[u32],
        token: u32,
        constraints: &[Constraint],
        rule: ConstraintRule,
    ) -> Self {
        let mut next = self.clone();
        match rule {
            ConstraintRule::Occurs => next.search(before, token, constraints),
            ConstraintRule::Transformers => next.walk(token, constraints),
        }
        next
    }

    /// Looks for the pending alternatives at the end of the sequence.
    fn search(&mut self, before: &[u32], token: u32, constraints: &[Constraint]) {
        let ends_with = |part: &[u32]| {
            let (last, rest) = (part[part.len() - 1], &part[..part.len() - 1]);
            last == token && before.ends_with(rest)
        };
        self.current = None;
        for (i, constraint) in constraints.iter().enumerate() {
            if self.done[i] {
                continue;
            }
            for alternative in constraint.alternatives() {
                self.done[i] |= ends_with(alternative);
            }
            if self.done[i] {
                self.pending.retain(|c| *c != i);
                continue;
            }
            for alternative in constraint.alternatives() {
                let lengths = (1..alternative.len()).rev();
                let matched = lengths.map(|n| &alternative[..n]).find(|m| ends_with(m));
                let longest = self.current.as_ref().map_or(0, |c| c.matched.len());
                if let Some(matched) = matched.filter(|m| m.len() > longest) {
                    self.current = Some(Current {
                        constraint: i,
                        matched: matched.to_vec(),
                    });
                }
            }
        }
    }

    /// One constraint after the other, from its first token to its last; a wrong token in the middle undoes it, and starts nothing.
    fn walk(&mut self, token: u32, constraints: &[Constraint]) {
        if let Some(mut current) = self.current.take() {
            current.matched.push(token);
            if constraints[current.constraint].has_prefix(&current.matched) {
                self.enter(current, constraints);
            } else {
                self.pending.push(current.constraint);
            }
            return;
        }
        let starts = |c: &usize| constraints[*c].has_prefix(&[token]);
        if let Some(place) = self.pending.iter().position(starts) {
            let current = Current {
                constraint: self.pending.remove(place),
                matched: vec![token],
            };
            self.enter(current, constraints);
        }
    }

    fn enter(&mut self, current: Current, constraints: &[Constraint]) {
        let alternatives = constraints[current.constraint].alternatives();
        if alternatives.contains(&current.matched) {
            self.done[current.constraint] = true;
        } else {
            self.current = Some(current);
        }
    }

    /// The tokens that bring a sequence further: the next ones of the current constraint, or the first ones of all that are pending.
    pub(super) fn next_tokens(&self, constraints: &[Constraint]) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut add = |constraint: usize, matched: &[u32]| {
            for alternative in constraints[constraint].alternatives() {
                if let Some(&token) = alternative.strip_prefix(matched).and_then(<[u32]>::first)
                    && !tokens.contains(&token)
                {
                    tokens.push(token);
                }
            }
        };
        match &self.current {
            Some(current) => add(current.constraint, &current.matched),
            None => self.pending.iter().for_each(|&c| add(c, &[])),
        }
        tokens
    }

    /// A number that grows with each step towards the end.
    pub(super) fn bank(&self, constraints: &[Constraint], rule: ConstraintRule) -> usize {
        let matched = self.current.as_ref();
        match rule {
            ConstraintRule::Occurs => {
                let done = constraints
                    .iter()
                    .zip(&self.done)
                    .filter(|(_, done)| **done);
                let tokens: usize = done.map(|(constraint, _)| constraint.longest()).sum();
                tokens + matched.map_or(0, |current| current.matched.len())
            }
            ConstraintRule::Transformers => {
                let longest = constraints.iter().map(Constraint::longest).max();
                let longest = longest.unwrap_or(0);
                let done = self.done.iter().filter(|done| **done).count();
                let in_progress = matched.map_or(0, |current| {
                    let missing = constraints[current.constraint].longest() - current.matched.len();
                    longest - missing
                });
                done * longest + in_progress
            }
        }
    }
}
