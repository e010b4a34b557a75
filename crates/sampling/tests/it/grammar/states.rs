//! States are values, grammars are shared, and masks are the same however they are made.

use llm_sampling::grammar::{Grammar, JsonConfig, Vocabulary, Whitespace};
use llm_sampling::{Candidates, Context, processor};
use ndarray::{Array2, Axis};
use proptest::prelude::*;

use super::vocabulary;

const TOKENS: [&str; 7] = ["a", "b", "ab", "ba", "c", "", "abc"];
const PATTERNS: [&str; 3] = ["(?:ab|c)*", "a?b?c?|(?:abc)+", "[ab]{2,4}c"];

/// Tokens that are allowed one after the other, chosen by numbers.
fn sequence(grammar: &Grammar, choices: &[prop::sample::Index]) -> Vec<u32> {
    let (mut state, mut ids) = (grammar.start(), Vec::new());
    for choice in choices {
        let allowed = grammar.allowed(state);
        let token = allowed[choice.index(allowed.len())];
        state = grammar.advance(state, token).unwrap();
        ids.push(token);
    }
    ids
}

#[test]
fn after_an_end_token_only_end_tokens_are_allowed() {
    let vocabulary =
        Vocabulary::new(&["a", "</s>", "<end>", "<pad>"], &[2, 1, 2], &[3, 1]).unwrap();
    assert_eq!(vocabulary.end_ids(), [1, 2]);
    let grammar = Grammar::regex(&vocabulary, "a+").unwrap();
    let state = grammar.after(&[0, 2]).unwrap();
    assert!(grammar.is_complete(state) && grammar.is_finished(state));
    assert_eq!(grammar.allowed(state), [1, 2]);
    assert_eq!(grammar.advance(state, 1), Ok(state));
    assert!(grammar.advance(state, 0).is_err());
    assert!(grammar.forced(state).is_empty());
    // What follows is padding, whatever it is.
    assert_eq!(grammar.after(&[0, 2, 3, 0, 9]), Ok(state));
    assert!(!grammar.is_finished(grammar.after(&[0]).unwrap()));
}

#[test]
fn without_end_tokens_a_text_that_cannot_go_on_is_finished() {
    let vocabulary = Vocabulary::new(&["a", "b"], &[], &[]).unwrap();
    let grammar = Grammar::regex(&vocabulary, "ab?").unwrap();
    let states = [&[][..], &[0], &[0, 1]].map(|ids| grammar.after(ids).unwrap());
    assert_eq!(
        states.map(|state| grammar.is_complete(state)),
        [false, true, true]
    );
    assert_eq!(
        states.map(|state| grammar.is_finished(state)),
        [false, false, true]
    );
}

#[test]
fn a_special_token_never_matches_its_own_text() {
    let vocabulary = Vocabulary::new(&["<x>", "<", "x", ">", "<x>"], &[], &[0]).unwrap();
    let grammar = Grammar::regex(&vocabulary, "<x>").unwrap();
    assert_eq!(grammar.allowed(grammar.start()), [1, 4]);
}

#[test]
fn states_of_another_grammar_do_no_harm() {
    let small = Grammar::regex(&vocabulary(&TOKENS), "a").unwrap();
    let large = Grammar::regex(&vocabulary(&TOKENS), "a{40}").unwrap();
    let mut state = large.start();
    for _ in 0..39 {
        state = large.advance(state, 0).unwrap();
    }
    assert!(small.allowed(state).is_empty() && small.forced(state).is_empty());
    assert!(small.advance(state, 0).is_err() && !small.is_complete(state));
    let mut candidates = Candidates::new();
    candidates.fill(&[0.0_f32; 8]).unwrap();
    small.mask(&mut candidates, state).unwrap();
    assert!(candidates.logits().is_empty());
}

#[test]
fn forced_bytes_end_where_there_is_a_choice_or_an_end() {
    let grammar = Grammar::regex(&vocabulary(&["a", "b", "é"]), "aé(?:b|a)|aébbb").unwrap();
    assert_eq!(grammar.forced(grammar.start()), "aé".as_bytes());
    assert_eq!(grammar.forced(grammar.after(&[0, 2, 1]).unwrap()), b"");
    let grammar = Grammar::regex(&vocabulary(&["a", "b", "é"]), "a[éè]").unwrap();
    assert_eq!(grammar.forced(grammar.start()), [b'a', 0xC3]); // one byte of two
}

#[test]
fn tokens_beyond_the_vocabulary_are_masked() {
    let grammar = Grammar::regex(&vocabulary(&["a", "b"]), "[ab]+").unwrap();
    let mut logits = Array2::from_elem([1, 70], 1.0_f32);
    processor::apply_inplace(&mut logits, &[Context::new(&[], &[0])], &grammar).unwrap();
    let stays: Vec<usize> = (0..70)
        .filter(|&i| logits[[0, i]] > f32::NEG_INFINITY)
        .collect();
    assert_eq!(stays, [0, 1, 2]);
}

#[test]
fn threads_share_a_grammar() {
    let grammar = Grammar::regex(&vocabulary(&TOKENS), PATTERNS[0]).unwrap();
    let fresh = Grammar::regex(&vocabulary(&TOKENS), PATTERNS[0]).unwrap();
    let mask = |grammar: &Grammar, ids: &[u32]| {
        let mut candidates = Candidates::new();
        candidates.fill(&[0.5_f32; 8]).unwrap();
        grammar
            .mask(&mut candidates, grammar.after(ids).unwrap())
            .unwrap();
        (0..8)
            .filter(|&id| candidates.index(id).is_some())
            .collect::<Vec<u32>>()
    };
    let rows = [&[][..], &[0], &[2], &[0, 1], &[4, 4], &[2, 0], &[7]];
    let want = rows.map(|ids| mask(&fresh, ids));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let grammar = grammar.clone();
            let want = &want;
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(&rows.map(|ids| mask(&grammar, ids)), want);
                }
            });
        }
    });
}

proptest! {
    /// Rows may change their places, as beams do, and may come alone: a row's mask is that of its own tokens.
    #[test]
    fn rows_can_be_reordered(
        pattern in prop::sample::select(&PATTERNS[..]),
        choices in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..6), 1..5),
        logits in prop::collection::vec(-3.0_f32..3.0, 40),
        turn in 0..5_usize,
    ) {
        let grammar = Grammar::regex(&vocabulary(&TOKENS), pattern).unwrap();
        let mut rows: Vec<Vec<u32>> = choices.iter().map(|choices| sequence(&grammar, choices)).collect();
        let logits = Array2::from_shape_fn([rows.len(), 8], |(i, j)| logits[i * 8 + j]);
        let masked = |rows: &[Vec<u32>], logits: &Array2<f32>| {
            let contexts: Vec<Context<'_>> = rows.iter().map(|ids| Context::new(&[5], ids)).collect();
            let mut logits = logits.clone();
            processor::apply_inplace(&mut logits, &contexts, &grammar).unwrap();
            logits
        };
        let together = masked(&rows, &logits);
        for (i, ids) in rows.iter().enumerate() {
            let alone = masked(std::slice::from_ref(ids), &logits.slice(ndarray::s![i..=i, ..]).to_owned());
            prop_assert_eq!(alone.row(0), together.row(i));
            let allowed = grammar.allowed(grammar.after(ids).unwrap());
            for (token, x) in together.row(i).iter().enumerate() {
                let want = if allowed.contains(&(token as u32)) { logits[[i, token]] } else { f32::NEG_INFINITY };
                prop_assert_eq!(*x, want);
            }
        }
        let turn = turn % rows.len();
        rows.rotate_left(turn);
        let order: Vec<usize> = (0..rows.len()).map(|i| (i + turn) % rows.len()).collect();
        prop_assert_eq!(masked(&rows, &logits.select(Axis(0), &order)), together.select(Axis(0), &order));
    }

    /// Kept or made anew, on all candidates or on few: the same tokens stay.
    #[test]
    fn a_mask_does_not_depend_on_how_it_is_made(
        pattern in prop::sample::select(&PATTERNS[..]),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        out in prop::collection::vec(any::<bool>(), 8),
        budget in prop::sample::select(vec![0_usize, 4, 8, 1 << 20]),
    ) {
        let grammar = Grammar::regex(&vocabulary(&TOKENS), pattern).unwrap();
        let ids = sequence(&grammar, &choices);
        let row: Vec<f64> = out.iter().map(|&out| if out { f64::NEG_INFINITY } else { 1.0 }).collect();
        let allowed = grammar.allowed(grammar.after(&ids).unwrap());
        let want: Vec<u32> = (0..8).filter(|&i| !out[i as usize] && allowed.contains(&i)).collect();
        let grammar = grammar.with_mask_bytes(budget);
        for compact in [false, true] {
            for prefix in 0..=ids.len() {
                let mut candidates = Candidates::new();
                candidates.fill(&row).unwrap();
                if compact {
                    candidates.compact();
                }
                grammar.mask(&mut candidates, grammar.after(&ids[..prefix]).unwrap()).unwrap();
                if prefix == ids.len() {
                    let left: Vec<u32> = (0..candidates.logits().len()).map(|i| candidates.token(i).unwrap()).collect();
                    prop_assert_eq!(&left, &want);
                }
            }
        }
    }
}

#[test]
fn the_settings_of_json_are_values() {
    let config = JsonConfig::new(Whitespace::UpTo(2)).with_free_depth(3);
    assert_eq!(
        (config.whitespace, config.free_depth),
        (Whitespace::UpTo(2), 3)
    );
    assert_eq!(JsonConfig::new(Whitespace::Spaced).free_depth, 1);
}
