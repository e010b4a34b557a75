//! A table that says for each state and byte which state is next, and which states are the end of a whole text.

use core::cell::Cell;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;

use super::error::GrammarError;
use super::vocabulary::Vocabulary;
use super::{MAX_BYTES, MAX_EDGES, MAX_STATES, MAX_STEPS};

/// From which no text of the language can be reached.
pub(super) const DEAD: u32 = 0;

/// A deterministic automaton over bytes, whose language is whole texts. States that lead to no text are all the dead one.
pub(super) struct Automaton {
    /// Bytes of one class lead to the same states.
    classes: [u8; 256],
    n_classes: usize,
    /// `[states, n_classes]`
    table: Vec<u32>,
    accepts: Vec<bool>,
    pub(super) start: u32,
}

impl Automaton {
    /// The automaton of an expression.
    pub(super) fn new(hir: &Hir) -> Result<Self, GrammarError> {
        let config = thompson::Config::new()
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(MAX_BYTES));
        let nfa = thompson::Compiler::new()
            .configure(config)
            .build_from_hir(hir)
            .map_err(|e| match e.size_limit() {
                Some(_) => too_many_bytes(),
                None => GrammarError::Unsupported(e.to_string()),
            })?;
        // A match of any length counts, not only the one that a search prefers.
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(MAX_BYTES))
            .determinize_size_limit(Some(MAX_BYTES));
        let dfa = dense::Builder::new()
            .configure(config)
            .build_from_nfa(&nfa)
            .map_err(|e| match e.is_size_limit_exceeded() {
                true => too_many_bytes(),
                false => GrammarError::Unsupported(source_text(&e)),
            })?;
        Self::from_dfa(&dfa)
    }

    fn from_dfa(dfa: &dense::DFA<Vec<u32>>) -> Result<Self, GrammarError> {
        let mut classes = [0; 256];
        let mut bytes = Vec::new(); // the first of each class
        for byte in 0..=255 {
            let class = dfa.byte_classes().get(byte);
            classes[usize::from(byte)] = class;
            if usize::from(class) == bytes.len() {
                bytes.push(byte);
            }
        }
        let start = start::Config::new().anchored(Anchored::Yes);
        let start = dfa
            .start_state(&start)
            .map_err(|e| GrammarError::Unsupported(e.to_string()))?;
        let mut states = vec![start];
        let mut numbers = std::collections::HashMap::from([(start, 1)]);
        let mut table = vec![DEAD; bytes.len()];
        let mut accepts = vec![false];
        let mut i = 0;
        while let Some(&state) = states.get(i) {
            i += 1;
            accepts.push(dfa.is_match_state(dfa.next_eoi_state(state)));
            for &byte in &bytes {
                let next = dfa.next_state(state, byte);
                let number = number(dfa, next, &mut states, &mut numbers)?;
                table.push(number);
            }
        }
        let mut automaton = Self {
            classes,
            n_classes: bytes.len(),
            table,
            accepts,
            start: 1,
        };
        automaton.bury();
        if automaton.start == DEAD {
            return Err(GrammarError::NoText);
        }
        Ok(automaton)
    }

    /// Makes states that lead to no text the dead one.
    fn bury(&mut self) {
        let live = self.live_by(|_| true);
        for next in &mut self.table {
            if !live[*next as usize] {
                *next = DEAD;
            }
        }
        if !live[self.start as usize] {
            self.start = DEAD;
        }
    }

    /// States from which a text can be reached over bytes of these classes.
    fn live_by(&self, usable: impl Fn(usize) -> bool) -> Vec<bool> {
        let mut sources = vec![Vec::new(); self.len()];
        for (i, &next) in self.table.iter().enumerate() {
            if next != DEAD && usable(i % self.n_classes) {
                sources[next as usize].push((i / self.n_classes) as u32); // at most MAX_STATES
            }
        }
        let mut live = self.accepts.clone();
        spread(&mut live, &sources);
        live
    }

    /// States from which a text can be reached in whole tokens.
    ///
    /// Where a byte that is needed is a token of its own, that is soon clear. Else the tokens are followed from each state that is in doubt.
    pub(super) fn live_by_tokens(
        &self,
        vocabulary: &Vocabulary,
    ) -> Result<Vec<bool>, GrammarError> {
        let mut usable = vec![false; self.n_classes];
        for (byte, single) in vocabulary.single_bytes().into_iter().enumerate() {
            usable[usize::from(self.classes[byte])] |= single;
        }
        let mut live = self.live_by(|class| usable[class]);
        let reachable = self.live_by(|_| true);
        let mut sources = vec![Vec::new(); self.len()];
        let mut n_edges = 0;
        let n_steps = Cell::new(0);
        let (mut targets, mut memory) = (Vec::new(), Vec::new());
        let mut seen = vec![DEAD; self.len()];
        for state in 1..self.len() as u32 {
            let i = state as usize;
            if live[i] || !reachable[i] {
                continue;
            }
            targets.clear();
            vocabulary.walk(
                state,
                &mut memory,
                |state, byte| {
                    n_steps.set(n_steps.get() + 1);
                    let next = self.next(state, byte);
                    next.filter(|_| n_steps.get() <= MAX_STEPS)
                },
                |target, _| {
                    live[i] |= live[target as usize];
                    if seen[target as usize] != state {
                        seen[target as usize] = state;
                        targets.push(target);
                    }
                    !live[i]
                },
            );
            if n_steps.get() > MAX_STEPS {
                let what = "bytes of tokens to follow in the search for dead ends";
                return Err(GrammarError::too_large(what, MAX_STEPS));
            }
            if live[i] {
                continue;
            }
            n_edges += targets.len();
            if n_edges > MAX_EDGES {
                let what = "pairs of states with tokens from one to the other";
                return Err(GrammarError::too_large(what, MAX_EDGES));
            }
            for &target in &targets {
                sources[target as usize].push(state);
            }
        }
        spread(&mut live, &sources);
        Ok(live)
    }

    /// Number of states.
    pub(super) fn len(&self) -> usize {
        self.accepts.len()
    }

    /// The state after a byte, unless no text goes on so.
    #[inline]
    pub(super) fn next(&self, state: u32, byte: u8) -> Option<u32> {
        let class = usize::from(self.classes[usize::from(byte)]);
        let next = self.table.get(state as usize * self.n_classes + class);
        next.copied().filter(|next| *next != DEAD)
    }

    /// True if a whole text ends here.
    pub(super) fn accepts(&self, state: u32) -> bool {
        self.accepts.get(state as usize) == Some(&true)
    }
}

/// The number of a state, a new one if it was not seen yet.
fn number(
    dfa: &dense::DFA<Vec<u32>>,
    state: StateID,
    states: &mut Vec<StateID>,
    numbers: &mut std::collections::HashMap<StateID, u32>,
) -> Result<u32, GrammarError> {
    if dfa.is_dead_state(state) {
        return Ok(DEAD);
    }
    if let Some(&number) = numbers.get(&state) {
        return Ok(number);
    }
    states.push(state);
    if states.len() >= MAX_STATES {
        return Err(GrammarError::too_large("states", MAX_STATES));
    }
    let number = states.len() as u32;
    numbers.insert(state, number);
    Ok(number)
}

/// Marks all states from which a marked one can be reached.
fn spread(live: &mut [bool], sources: &[Vec<u32>]) {
    let mut open: Vec<usize> = (0..live.len()).filter(|&i| live[i]).collect();
    while let Some(state) = open.pop() {
        for &source in &sources[state] {
            if !core::mem::replace(&mut live[source as usize], true) {
                open.push(source as usize);
            }
        }
    }
}

fn too_many_bytes() -> GrammarError {
    GrammarError::too_large("bytes of memory at each stage of its making", MAX_BYTES)
}

/// What lies behind an error that only says that a part could not be built.
fn source_text(error: &dyn core::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
