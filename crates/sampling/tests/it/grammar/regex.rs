//! Regular expressions against the crate `regex`.

use llm_sampling::grammar::{Grammar, GrammarError};
use proptest::prelude::*;
use regex::bytes::Regex;

use super::{check, check_forced, text, vocabulary};

fn judge(pattern: &str) -> impl Fn(&[u8]) -> bool {
    let whole = Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap();
    move |text| whole.is_match(text)
}

/// Returns how many sequences of at most `len` tokens there are.
fn check_pattern<T: AsRef<[u8]>>(pattern: &str, tokens: &[T], len: usize) -> usize {
    let grammar = Grammar::regex(&vocabulary(tokens), pattern).unwrap();
    check(&grammar, tokens, (len, 3, 4), &judge(pattern))
}

#[test]
fn alternatives_of_words() {
    let tokens = ["y", "es", "ye", "s", "no", "n", "o", "yes"];
    assert_eq!(check_pattern("yes|no", &tokens, 4), 5);
}

#[test]
fn a_longer_text_counts_even_if_a_search_would_prefer_the_shorter() {
    assert_eq!(check_pattern("a|ab", &["a", "b", "ab"], 6), 3);
    assert_eq!(check_pattern("a??b??c?", &["a", "b", "c", "bc"], 6), 10);
    check_pattern("(?:ab|a)*?c?", &["a", "b", "c", "ab", "bc", "ca"], 6);
}

#[test]
fn counts_and_classes() {
    check_pattern("[0-9]{2,3}", &["0", "12", "3", "456", "x"], 5);
    check_pattern("a.c|a[^a-b]", &["a", "b", "c", ".", "\n"], 5);
    check_pattern("(?i)aB", &["a", "A", "b", "B", "AB"], 4);
    check_pattern("a{5}", &["aa", "aaa", "a"], 6);
}

#[test]
fn characters_cut_into_bytes() {
    let tokens: [&[u8]; 6] = [
        &[0xC3],
        &[0xA9],
        &[0xC3, 0xA9],
        &[0xA9, 0xC3],
        b"x",
        &[0xA9, b'x'],
    ];
    check_pattern("é+x", &tokens, 6);
    let tokens: [&[u8]; 5] = [&[0xF0, 0x9F], &[0x99], &[0x82], &[0x99, 0x82, b'!'], b"!"];
    check_pattern(".!", &tokens, 6);
    check_pattern(r"\w+|é", &[&[0xC3_u8][..], &[0xA9], b"w"], 5);
}

#[test]
fn dead_ends_are_not_entered() {
    // "a" cannot be followed by a "b" alone.
    assert_eq!(check_pattern("abb?c", &["a", "ab", "c"], 6), 1);
    assert_eq!(check_pattern("a{4}b", &["aaa", "aa", "b"], 6), 1);
    // One can run in a circle for ever, but there is no "c".
    check_pattern("b(?:aa)*|a(?:aa)*c", &["a", "aa", "b"], 6);
    check_pattern("(?:aaa)*", &["aa", "aaaa"], 6);
}

#[test]
fn dead_ends_behind_dead_ends_are_not_entered() {
    // From the state after "x", all is well only by way of states that are numbered later or earlier.
    check_pattern("x(?:ab)*c|xabd|(?:ab)*xy", &["x", "ab", "c", "y"], 5);
    check_pattern("(?:a|bc)*d|(?:a|b)*e", &["a", "b", "e"], 5);
    check_pattern("(?:a|bc)*d|(?:a|b)*e", &["a", "bc", "d"], 5);
    check_pattern(
        "(?:abc)+d(?:ef)*g",
        &["ab", "c", "de", "fe", "fg", "d", "g"],
        5,
    );
}

#[test]
fn anchors_and_boundaries() {
    check_pattern(r"^a$|^b+$", &["a", "b"], 5);
    check_pattern(r"(?m)a$\n^b", &["a", "b", "\n", "\nb"], 5);
    check_pattern(r"a(?-u:\b) ?b?", &["a", "b", " ", "a ", " b"], 5);
    check_pattern(r"\Aab\z", &["a", "b"], 5);
}

#[test]
fn nothing_is_a_text_too() {
    assert_eq!(check_pattern("", &["a", "b"], 4), 1);
    assert_eq!(check_pattern("(?:)|a", &["a", "b"], 4), 2);
    assert_eq!(check_pattern("a*", &["b"], 4), 1);
}

#[test]
fn what_is_forced_is_all_that_is_certain() {
    let tokens = ["a", "b", "c"];
    let mut longest = 0;
    for pattern in [
        "abc",
        "abca|abcb",
        "ab(?:c|ab?)",
        "a{3}b*c",
        "(?:ab)+c",
        "aab|b",
        "abcabc?",
        "[ab]bc[ac]cc",
        "a*",
    ] {
        let grammar = Grammar::regex(&vocabulary(&tokens), pattern).unwrap();
        let accepts = judge(pattern);
        let mut open = vec![Vec::new()];
        while let Some(ids) = open.pop() {
            let state = grammar.after(&ids).unwrap();
            let text = text(&tokens, &ids);
            check_forced(&grammar, state, &text, (&tokens, 7, true), &accepts);
            longest = longest.max(grammar.forced(state).len());
            for token in
                (0..3).filter(|token| ids.len() < 3 && grammar.advance(state, *token).is_ok())
            {
                open.push([&ids[..], &[token]].concat());
            }
        }
    }
    assert_eq!(longest, 5); // of "abcabc?"
}

#[test]
fn tokens_of_the_same_text_are_equals() {
    assert_eq!(check_pattern("a+", &["a", "a", "b"], 4), 2 + 4 + 8 + 16);
}

#[test]
fn tokens_without_a_text_never_come() {
    let tokens = ["a", "", "b"];
    let grammar = Grammar::regex(&vocabulary(&tokens), "ab?").unwrap();
    assert_eq!(grammar.allowed(grammar.start()), [0]);
    assert_eq!(grammar.allowed(grammar.after(&[0]).unwrap()), [2, 3]);
}

/// A regular expression over `a`, `b` and a character of two bytes.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec!["a", "b", "ab", "é", "[ab]", "."]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(3, 5, 2, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
                inner.clone().prop_map(|a| format!("(?:{a})*")),
                inner.clone().prop_map(|a| format!("(?:{a})?")),
                inner.prop_map(|a| format!("(?:{a}){{1,2}}")),
            ]
        })
}

fn tokens() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let one = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"ab",
        b"ba",
        b"aa",
        "é".as_bytes(),
        &[0xC3],
        &[0xA9],
        &[0xA9, b'a'],
    ]);
    prop::collection::vec(one.prop_map(<[u8]>::to_vec), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Any expression and any tokens: exactly what can be finished is allowed.
    #[test]
    fn random_expressions_are_followed(pattern in expression(), tokens in tokens()) {
        let accepts = judge(&pattern);
        match Grammar::regex(&vocabulary(&tokens), &pattern) {
            Ok(grammar) => { check(&grammar, &tokens, (4, 2, 7), &accepts); }
            Err(error) => {
                prop_assert_eq!(error, GrammarError::NoTokens);
                prop_assert!(!super::reference::can_finish(b"", &tokens, 7, &accepts), "{}", pattern);
            }
        }
    }

    /// Any text at all is a regular expression or a typed error.
    #[test]
    fn no_pattern_panics(pattern in "(?s).{0,40}") {
        let _ = Grammar::regex(&vocabulary(&["a", "b"]), &pattern);
    }

    #[test]
    fn no_syntax_panics(pattern in r"[ab(|)*+?{}\[\]0-9,\\dwb^$.-]{0,24}") {
        let _ = Grammar::regex(&vocabulary(&["a", "b"]), &pattern);
    }
}
