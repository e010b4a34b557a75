//! Grammars: against a judge of another kind on small vocabularies, and in chains and searches on larger ones.

mod decoding;
mod errors;
mod json;
mod limits;
mod regex;
mod states;

use std::collections::BTreeSet;

use llm_sampling::grammar::{Grammar, GrammarState, Vocabulary};
use llm_sampling::reference::grammar as reference;

/// A vocabulary of these tokens and an end token, which is the last.
fn vocabulary<T: AsRef<[u8]>>(tokens: &[T]) -> Vocabulary {
    let all: Vec<&[u8]> = tokens.iter().map(AsRef::as_ref).collect();
    let all = [all, vec![b"<eos>"]].concat();
    Vocabulary::new(&all, &[tokens.len() as u32], &[]).unwrap()
}

fn text<T: AsRef<[u8]>>(tokens: &[T], ids: &[u32]) -> Vec<u8> {
    let bytes = ids.iter().map(|id| tokens[*id as usize].as_ref());
    bytes.collect::<Vec<_>>().concat()
}

/// Sequences of at most `len` tokens before an end token, by following what is allowed.
fn follow(grammar: &Grammar, len: usize) -> BTreeSet<Vec<u32>> {
    let (mut all, mut open) = (BTreeSet::new(), vec![(Vec::new(), grammar.start())]);
    while let Some((ids, state)) = open.pop() {
        for token in grammar.allowed(state) {
            let next = grammar.advance(state, token).unwrap();
            if grammar.vocabulary().is_end(token) {
                all.insert(ids.clone());
            } else if ids.len() < len {
                open.push(([&ids[..], &[token]].concat(), next));
            }
        }
    }
    all
}

/// Sequences of at most `len` tokens whose text is accepted, by trying all.
fn enumerate<T: AsRef<[u8]>>(
    tokens: &[T],
    len: usize,
    accepts: &impl Fn(&[u8]) -> bool,
) -> BTreeSet<Vec<u32>> {
    let (mut all, mut newest) = (BTreeSet::new(), vec![Vec::new()]);
    for n in 0..=len {
        let accepted = newest
            .iter()
            .filter(|ids: &&Vec<u32>| accepts(&text(tokens, ids)));
        all.extend(accepted.cloned());
        if n < len {
            let longer = |ids: &Vec<u32>| {
                let ids = ids.clone();
                (0..tokens.len() as u32).map(move |token| [&ids[..], &[token]].concat())
            };
            newest = newest.iter().flat_map(longer).collect();
        }
    }
    all
}

/// The laws: what comes of following the mask is what the judge accepts, and each mask has exactly the tokens that can still be finished.
///
/// `n_more` tokens must be enough to finish any text that can be finished. Returns how many sequences there were.
fn check<T: AsRef<[u8]>>(
    grammar: &Grammar,
    tokens: &[T],
    (len, prefix_len, n_more): (usize, usize, usize),
    accepts: &impl Fn(&[u8]) -> bool,
) -> usize {
    let sequences = enumerate(tokens, len, accepts);
    assert_eq!(follow(grammar, len), sequences);
    let end = tokens.len() as u32;
    let mut open = vec![(Vec::new(), grammar.start())];
    while let Some((ids, state)) = open.pop() {
        let text = text(tokens, &ids);
        let mut want = reference::allowed(&text, tokens, n_more, accepts);
        assert_eq!(grammar.is_complete(state), accepts(&text), "{text:?}");
        assert_eq!(
            grammar.is_finished(state),
            accepts(&text) && want.is_empty(),
            "{text:?}"
        );
        check_forced(
            grammar,
            state,
            &text,
            (tokens, n_more.min(3), false),
            accepts,
        );
        for &token in &want {
            let next = grammar.advance(state, token).unwrap();
            if ids.len() < prefix_len {
                open.push(([&ids[..], &[token]].concat(), next));
            }
        }
        if accepts(&text) {
            want.push(end);
        }
        assert_eq!(grammar.allowed(state), want, "after {text:?}");
        for token in 0..end + 3 {
            assert_eq!(grammar.advance(state, token).is_ok(), want.contains(&token));
        }
    }
    sequences.len()
}

/// All that can be finished begins with the bytes that are forced. Where `all_in_reach`, which is to say that the texts that can be finished in these
/// tokens show all bytes that may be next, nothing longer is certain: two texts go on in two ways, or one ends.
fn check_forced<T: AsRef<[u8]>>(
    grammar: &Grammar,
    state: GrammarState,
    text: &[u8],
    (tokens, n_more, all_in_reach): (&[T], usize, bool),
    accepts: &impl Fn(&[u8]) -> bool,
) {
    let forced = [text, &grammar.forced(state)].concat();
    let sequences = enumerate(tokens, n_more, &|more: &[u8]| {
        accepts(&[text, more].concat())
    });
    let mut next = BTreeSet::new();
    for ids in sequences {
        let whole = [text, &self::text(tokens, &ids)].concat();
        assert!(whole.starts_with(&forced), "{forced:?} {whole:?}");
        next.insert(whole.get(forced.len()).copied());
    }
    if all_in_reach {
        assert!(
            next.len() > 1 || next.contains(&None),
            "{forced:?} {next:?}"
        );
    }
}
