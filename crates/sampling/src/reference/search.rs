//! Searches written out with plain lists: every continuation of every sequence, whole sorts, whole sequences copied, and a model that is a
//! function of a sequence.

use core::cmp::Ordering;

use crate::search::beam::{BeamConfig, Bookkeeping, EarlyStopping, LengthRule};
use crate::search::constrained::{Constraint, ConstraintRule};

/// A sequence with the sum of its log-probabilities, or a hypothesis with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The new tokens.
    pub tokens: Vec<u32>,
    /// Sum or score.
    pub score: f64,
}

/// The score of a finished sequence: eq. 14 of Wu et al. for `Gnmt`, else `sum / length^penalty`.
#[must_use]
pub fn score(sum: f64, tokens: &[u32], prompt: usize, config: &BeamConfig) -> f64 {
    let stopped = tokens.last().is_some_and(|t| config.stop_ids.contains(t));
    let n = tokens.len() as f64;
    match config.length {
        LengthRule::Sum => sum,
        LengthRule::Generated { penalty } => sum / n.powf(penalty),
        LengthRule::Whole { penalty } => {
            (sum) / (prompt as f64 + n - f64::from(u8::from(stopped))).powf(penalty)
        }
        LengthRule::Gnmt { alpha } => sum / ((5.0 + n).powf(alpha) / 6.0_f64.powf(alpha)),
    }
}

// ANCHOR: all
/// Every sequence that ends with a stop token or has `max_new_tokens`, with its score, in no order.
pub fn all(
    log_probs: &mut impl FnMut(&[u32]) -> Vec<f64>,
    prompt: usize,
    config: &BeamConfig,
) -> Vec<Scored> {
    let mut open = vec![Scored {
        tokens: Vec::new(),
        score: 0.0,
    }];
    let mut whole = Vec::new();
    while let Some(sequence) = open.pop() {
        for next in continuations(&sequence, &log_probs(&sequence.tokens)) {
            let last = next.tokens[next.tokens.len() - 1];
            if config.stop_ids.contains(&last) || next.tokens.len() == config.max_new_tokens {
                whole.push(Scored {
                    score: score(next.score, &next.tokens, prompt, config),
                    ..next
                });
            } else {
                open.push(next);
            }
        }
    }
    whole
}
// ANCHOR_END: all

/// The sequence with each possible token.
fn continuations(sequence: &Scored, log_probs: &[f64]) -> Vec<Scored> {
    let all = log_probs.iter().enumerate().map(|(token, log_p)| {
        let mut tokens = sequence.tokens.clone();
        tokens.push(token as u32);
        let score = sequence.score + log_p;
        Scored { tokens, score }
    });
    all.filter(|s| s.score > f64::NEG_INFINITY).collect()
}

/// The largest sum or score.
fn largest(list: &[Scored]) -> f64 {
    let scores = list.iter().map(|s| s.score);
    scores.fold(f64::NEG_INFINITY, f64::max)
}

/// The best first; a stable sort, so equals stay in the order of beams and ids.
fn sort(list: &mut [Scored]) {
    list.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
}

/// How candidates are picked in each step.
#[derive(Clone, Copy, Debug)]
pub enum Pick<'a> {
    /// The best ones.
    Best,
    /// Drawn one after the other at these numbers, one list for each step.
    Drawn(&'a [Vec<f64>]),
    /// The best ones and those that fulfill constraints.
    Constrained(&'a [Constraint], ConstraintRule, &'a [u32]),
}

/// Hypotheses of one prompt in groups of beams, the best first. One group with a penalty of 0 is plain beam search.
///
/// `log_probs` takes the new tokens of a sequence.
pub fn beams(
    log_probs: &mut impl FnMut(&[u32]) -> Vec<f64>,
    prompt: usize,
    config: &BeamConfig,
    n_groups: usize,
    penalty: f64,
    pick: Pick<'_>,
) -> Vec<Scored> {
    let width = config.n_beams / n_groups;
    let empty = Scored {
        tokens: Vec::new(),
        score: 0.0,
    };
    let mut running = vec![vec![empty]; n_groups];
    let mut finished: Vec<Vec<Scored>> = vec![Vec::new(); n_groups];
    let mut done = vec![false; n_groups];
    for step in 0..config.max_new_tokens {
        let last = step + 1 == config.max_new_tokens;
        let mut taken: Vec<u32> = Vec::new();
        for g in 0..n_groups {
            if done[g] {
                continue;
            }
            let mut list = Vec::new();
            for sequence in &running[g] {
                let mut log_p = log_probs(&sequence.tokens);
                for token in &taken {
                    log_p[*token as usize] -= penalty;
                }
                list.extend(continuations(sequence, &log_p));
            }
            let everything = list.clone();
            match pick {
                Pick::Drawn(uniforms) => {
                    list = draw(list, &uniforms[step]);
                    if config.bookkeeping == Bookkeeping::Scorer {
                        sort(&mut list);
                    }
                }
                _ => sort(&mut list),
            }
            let best_candidate = list
                .iter()
                .map(|s| s.score)
                .fold(f64::NEG_INFINITY, f64::max);
            let stops = |s: &Scored| config.stop_ids.contains(&s.tokens[step]);
            let mut ends: Vec<Scored> = list
                .iter()
                .take(width)
                .filter(|s| stops(s))
                .cloned()
                .collect();
            let mut goes_on: Vec<Scored> = list.iter().filter(|s| !stops(s)).cloned().collect();
            taken.extend(goes_on.iter().take(width).map(|s| s.tokens[step]));
            if last && config.bookkeeping == Bookkeeping::Vectorized {
                goes_on = list
                    .iter()
                    .take(width)
                    .filter(|s| !stops(s))
                    .cloned()
                    .collect();
            }
            sort(&mut goes_on);
            goes_on.truncate(width);
            if let Pick::Constrained(constraints, rule, before) = pick {
                let whole = |s: &Scored| match rule {
                    ConstraintRule::Occurs => s.tokens.clone(),
                    ConstraintRule::Transformers => [before, &s.tokens].concat(),
                };
                ends.retain(|s| met(&whole(s)[..whole(s).len() - 1], constraints, rule).0);
                for s in running[g].iter() {
                    let mut own: Vec<Scored> = everything
                        .iter()
                        .filter(|c| c.tokens.starts_with(&s.tokens) && !stops(c))
                        .cloned()
                        .collect();
                    sort(&mut own);
                    let state = met(&whole(s), constraints, rule);
                    for (i, c) in own.iter().enumerate() {
                        let further = !state.0
                            && met(&whole(c), constraints, rule).1 > state.1
                            && useful(&whole(s), c.tokens[step], constraints, rule);
                        let offered = further
                            || (i == 0
                                && rule == ConstraintRule::Occurs
                                && !constraints.is_empty());
                        if offered && !goes_on.contains(c) {
                            goes_on.push(c.clone());
                        }
                    }
                }
                sort(&mut goes_on);
                let mut banks: Vec<usize> = goes_on
                    .iter()
                    .map(|s| met(&whole(s), constraints, rule).1)
                    .collect();
                let banked: Vec<(usize, Scored)> = banks.clone().into_iter().zip(goes_on).collect();
                banks.sort_unstable();
                banks.dedup();
                goes_on = Vec::new();
                for turn in 0..banked.len() {
                    for bank in banks.iter().rev() {
                        let mut members = banked.iter().filter(|(b, _)| b == bank);
                        goes_on.extend(members.nth(turn).map(|(_, s)| s.clone()));
                    }
                }
                goes_on.truncate(width);
            }
            let open = |goes_on: &[Scored]| match config.bookkeeping {
                Bookkeeping::Vectorized => largest(goes_on),
                Bookkeeping::Scorer => best_candidate,
            };
            let enough = |finished: &[Scored], open: f64| {
                finished.len() == width
                    && (config.early_stopping == EarlyStopping::WhenFull
                        || finished[width - 1].score >= attainable(open, step + 1, prompt, config))
            };
            let mut keep = |list: Vec<Scored>| {
                for s in list {
                    let score = score(s.score, &s.tokens, prompt, config);
                    finished[g].push(Scored { score, ..s });
                }
                sort(&mut finished[g]);
                if let Pick::Constrained(constraints, rule, before) = pick {
                    finished[g].sort_by_key(|s| match rule {
                        ConstraintRule::Occurs => unmet(&s.tokens, constraints, rule),
                        ConstraintRule::Transformers => {
                            unmet(&[before, &s.tokens].concat(), constraints, rule)
                        }
                    });
                }
                finished[g].truncate(width);
                finished[g].clone()
            };
            let mut kept = keep(ends);
            if last {
                let late = config.bookkeeping == Bookkeeping::Scorer;
                if !(late && enough(&kept, best_candidate)) {
                    kept = keep(goes_on);
                }
                goes_on = Vec::new();
            }
            done[g] = goes_on.is_empty() || enough(&kept, open(&goes_on));
            running[g] = goes_on;
        }
    }
    let mut all: Vec<Scored> = finished.concat();
    if n_groups > 1 {
        sort(&mut all);
    }
    all.truncate(config.n_return);
    all
}

/// The best score that a sum of so many tokens is given credit for.
fn attainable(sum: f64, n: usize, prompt: usize, config: &BeamConfig) -> f64 {
    let exponent = match config.length {
        LengthRule::Sum => 0.0,
        LengthRule::Generated { penalty } | LengthRule::Whole { penalty } => penalty,
        LengthRule::Gnmt { alpha } => alpha,
    };
    let long = config.early_stopping == EarlyStopping::Never && exponent > 0.0;
    let n = if long { config.max_new_tokens } else { n };
    // Tokens of which none is a stop token.
    let free = (0..u32::MAX).find(|t| !config.stop_ids.contains(t));
    score(sum, &vec![free.unwrap_or(0); n], prompt, config)
}

/// Draws without replacement: at each number, what is left is laid end to end.
fn draw(mut list: Vec<Scored>, uniforms: &[f64]) -> Vec<Scored> {
    let max = list
        .iter()
        .map(|s| s.score)
        .fold(f64::NEG_INFINITY, f64::max);
    let mut drawn = Vec::new();
    for u in uniforms {
        let weight = |s: &Scored| (s.score - max).exp();
        let total: f64 = list.iter().map(weight).sum();
        if total == 0.0 {
            break;
        }
        let mut sum = 0.0;
        let place = list.iter().position(|s| {
            sum += weight(s);
            sum > u * total
        });
        drawn.push(list.remove(place.unwrap_or(list.len() - 1)));
    }
    drawn
}

/// True if the token is one of those that a sequence's constraints wait for.
fn useful(tokens: &[u32], token: u32, constraints: &[Constraint], rule: ConstraintRule) -> bool {
    match rule {
        ConstraintRule::Occurs => {
            // The longest beginning of an unmet phrase at the end of the tokens; the first constraint of equals.
            let mut longest: Option<(usize, usize, usize)> = None; // constraint, matched, alternative
            for (i, constraint) in constraints.iter().enumerate() {
                if occurs(tokens, constraint) {
                    continue;
                }
                for (j, phrase) in constraint.alternatives().iter().enumerate() {
                    let n = (0..phrase.len())
                        .rev()
                        .find(|n| tokens.ends_with(&phrase[..*n]));
                    let n = n.unwrap_or(0);
                    if n > longest.map_or(0, |(_, n, _)| n) {
                        longest = Some((i, n, j));
                    }
                }
            }
            constraints
                .iter()
                .enumerate()
                .any(|(i, constraint)| match longest {
                    Some((c, n, j)) => {
                        let matched = &constraints[c].alternatives()[j][..n];
                        i == c
                            && constraint
                                .alternatives()
                                .iter()
                                .any(|p| p.starts_with(matched) && p.get(n) == Some(&token))
                    }
                    None => {
                        !occurs(tokens, constraint)
                            && constraint.alternatives().iter().any(|p| p[0] == token)
                    }
                })
        }
        ConstraintRule::Transformers => true, // a step forward can only be made with such a token
    }
}

fn occurs(tokens: &[u32], constraint: &Constraint) -> bool {
    let mut phrases = constraint.alternatives().iter();
    phrases.any(|phrase| tokens.windows(phrase.len()).any(|w| w == phrase))
}

/// How many constraints a sequence does not fulfill.
#[must_use]
pub fn unmet(tokens: &[u32], constraints: &[Constraint], rule: ConstraintRule) -> usize {
    match rule {
        ConstraintRule::Occurs => constraints.iter().filter(|c| !occurs(tokens, c)).count(),
        ConstraintRule::Transformers => constraints.len() - walk(tokens, constraints).0,
    }
}

/// Whether all constraints are fulfilled, and the bank.
fn met(tokens: &[u32], constraints: &[Constraint], rule: ConstraintRule) -> (bool, usize) {
    let longest = |c: &Constraint| c.alternatives().iter().map(Vec::len).max().unwrap_or(0);
    let all = unmet(tokens, constraints, rule) == 0;
    match rule {
        ConstraintRule::Occurs => {
            let (done, open): (Vec<_>, Vec<_>) =
                constraints.iter().partition(|c| occurs(tokens, c));
            let started = open.iter().flat_map(|c| c.alternatives()).map(|phrase| {
                let n = (0..phrase.len())
                    .rev()
                    .find(|n| tokens.ends_with(&phrase[..*n]));
                n.unwrap_or(0)
            });
            let bank = done.iter().map(|c| longest(c)).sum::<usize>() + started.max().unwrap_or(0);
            (all, bank)
        }
        ConstraintRule::Transformers => {
            let (done, current) = walk(tokens, constraints);
            let max = constraints.iter().map(longest).max().unwrap_or(0);
            let current = current.map_or(0, |(c, n)| max - (longest(&constraints[c]) - n));
            (all, done * max + current)
        }
    }
}

/// Constraints that are done after all tokens, and the one in progress with its matched tokens.
fn walk(tokens: &[u32], constraints: &[Constraint]) -> (usize, Option<(usize, usize)>) {
    let mut pending: Vec<usize> = (0..constraints.len()).collect();
    let mut current: Option<(usize, Vec<u32>)> = None;
    let mut done = 0;
    for &token in tokens {
        let (c, matched) = match current.take() {
            Some((c, mut matched)) => {
                matched.push(token);
                (c, matched)
            }
            None => {
                let starts = pending
                    .iter()
                    .position(|&c| constraints[c].alternatives().iter().any(|p| p[0] == token));
                match starts {
                    Some(i) => (pending.remove(i), vec![token]),
                    None => continue,
                }
            }
        };
        let phrases = constraints[c].alternatives();
        if phrases.contains(&matched) {
            done += 1;
        } else if phrases.iter().any(|p| p.starts_with(&matched)) {
            current = Some((c, matched));
        } else {
            pending.push(c);
        }
    }
    (done, current.map(|(c, matched)| (c, matched.len())))
}
