//! Streamed text up to a stop string: known answers and laws.

use core::convert::Infallible;
use core::ops::ControlFlow;

use llm_sampling::generate::{GenerateConfig, Generation, StopReason, generate_text};
use llm_sampling::stream::{StopStreamer, StopStrings, StopText, TextStreamer};
use llm_sampling::{SamplingConfig, reference};
use ndarray::Array1;
use proptest::prelude::*;

fn streamer(stops: &[&str], stop_text: StopText) -> StopStreamer {
    StopStreamer::new(StopStrings::new(stops).unwrap(), stop_text)
}

/// Few letters of one to four bytes, so that stop strings occur, begin, and fail at every point.
fn letter() -> impl Strategy<Value = char> {
    prop_oneof![6 => Just('a'), 5 => Just('b'), 2 => Just('é'), 1 => Just('è'), 2 => Just('你'), 1 => Just('佡'), 1 => Just('🙂')]
}

fn string(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = String> {
    prop::collection::vec(letter(), len).prop_map(String::from_iter)
}

/// Strings of their own, or parts of one, so that some are inside of others.
fn stops() -> impl Strategy<Value = Vec<String>> {
    let part = |(base, parts): (String, Vec<(usize, usize)>)| {
        let letters: Vec<char> = base.chars().collect();
        let of = |(start, len): (usize, usize)| -> String {
            let start = start % letters.len();
            letters[start..letters.len().min(start + len)]
                .iter()
                .collect()
        };
        parts.into_iter().map(of).collect()
    };
    let parts = prop::collection::vec((0..5_usize, 1..5_usize), 2..5);
    prop_oneof![
        prop::collection::vec(string(1..4), 0..5),
        (string(2..6), parts).prop_map(part),
    ]
}

fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(bytes.len() + 1))
        .chain([0, bytes.len()])
        .collect();
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| bytes[pair[0]..pair[1]].to_vec())
        .collect()
}

/// Any bytes, or text of the letters above.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => string(0..20).prop_map(String::into_bytes),
        1 => prop::collection::vec(prop::sample::select(vec![b'a', b'b', 0xC3, 0xA9, 0xE4, 0xBD, 0xA0, 0xF0, 0x9F, 0xFF]), 0..20),
    ]
}

proptest! {
    // ANCHOR: law
    /// However the bytes come, the text is that of the reference, and the same stop string is named.
    #[test]
    fn the_text_ends_at_the_first_stop_string(
        bytes in bytes(), stops in stops(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12), include in any::<bool>(),
    ) {
        let stop_text = if include { StopText::Include } else { StopText::Drop };
        let mut streamer = StopStreamer::new(StopStrings::new(&stops).unwrap(), stop_text);
        let mut text: String = cut(&bytes, &cuts).iter().map(|token| streamer.push(token)).collect();
        text.push_str(&streamer.finish());
        let (expected, stop) = reference::stop_strings::cut(&String::from_utf8_lossy(&bytes), &stops, include);
        prop_assert_eq!(&text, &expected);
        // Of equal strings the first is named, by both.
        prop_assert_eq!(streamer.stopped(), stop);
        if !include {
            prop_assert!(stops.iter().all(|stop| !text.contains(stop.as_str())), "{text:?} {stops:?}");
        }
    }
    // ANCHOR_END: law

    /// Before a stop string, what was handed out, what is held back and the part of a character are the whole; and no more is held back than
    /// the longest end of the text that begins a stop string.
    #[test]
    fn only_a_beginning_of_a_stop_string_is_held_back(text in string(0..20), stops in stops()) {
        let mut streamer = StopStreamer::new(StopStrings::new(&stops).unwrap(), StopText::Drop);
        let mut emitted = String::new();
        let mut seen = 0;
        for (end, _) in text.char_indices().map(|(i, c)| (i + c.len_utf8(), c)) {
            emitted.push_str(&streamer.push(&text.as_bytes()[seen..end]));
            seen = end;
            let so_far = &text[..end];
            if streamer.stopped().is_some() {
                break;
            }
            prop_assert_eq!(format!("{emitted}{}", streamer.held()), so_far);
            let longest = (0..=so_far.len()).find(|&start| {
                so_far.get(start..).is_some_and(|end| stops.iter().any(|stop| stop.starts_with(end)))
            });
            // An empty end begins every string, and is not needed where there are none.
            prop_assert_eq!(streamer.held().len(), longest.map_or(0, |start| so_far.len() - start));
        }
    }

    /// Without stop strings, the streamer is the plain one.
    #[test]
    fn no_stop_strings_change_nothing(bytes in bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut plain = TextStreamer::new();
        let mut streamer = streamer(&[], StopText::Drop);
        for token in cut(&bytes, &cuts) {
            prop_assert_eq!(streamer.push(&token), plain.push(&token));
            prop_assert_eq!(streamer.held(), "");
        }
        prop_assert_eq!(streamer.finish(), plain.finish());
    }
}

#[test]
fn a_beginning_that_fails_is_handed_out() {
    let mut streamer = streamer(&["STOP", "TOY"], StopText::Drop);
    assert_eq!(streamer.push(b"a S"), "a ");
    assert_eq!(streamer.push(b"TO"), "");
    assert_eq!(streamer.held(), "STO");
    // "STOX" is no stop string, nor is any end of it a beginning of one.
    assert_eq!(streamer.push(b"X"), "STOX");
    // Here "TO" still begins the other one.
    assert_eq!(streamer.push(b"STO"), "");
    assert_eq!(streamer.push(b"Y!"), "S");
    assert_eq!(streamer.stopped(), Some(1));
    assert_eq!(
        (streamer.push(b"more"), streamer.finish()),
        (String::new(), String::new())
    );
}

#[test]
fn the_first_to_be_complete_wins_and_then_the_longest() {
    for (stops, text, dropped, included, index) in [
        (["bc", "abcd"], "xabcd", "xa", "xabc", 0), // "bc" is complete before "abcd"
        (["bc", "abc"], "xabcd", "x", "xabc", 1),   // both end together
        (["b", "b"], "abc", "a", "ab", 0),
    ] {
        for (stop_text, expected) in [(StopText::Drop, dropped), (StopText::Include, included)] {
            let mut streamer = streamer(&stops, stop_text);
            assert_eq!(streamer.push(text.as_bytes()), expected);
            assert_eq!(streamer.stopped(), Some(index));
        }
    }
}

/// U+4F60 is E4 BD A0 and U+4F61 is E4 BD A1: the same first two bytes are no reason to wait longer than for the character.
#[test]
fn characters_that_share_bytes_with_a_stop_string_do_not_wait() {
    let mut streamer = streamer(&["\u{4F60}\u{597D}"], StopText::Drop);
    assert_eq!(streamer.push(b"\xE4\xBD"), "");
    assert_eq!(streamer.held(), "");
    assert_eq!(streamer.push(b"\xA1"), "\u{4F61}");
    assert_eq!(streamer.push("\u{4F60}".as_bytes()), "");
    assert_eq!(streamer.push("\u{4F60}".as_bytes()), "\u{4F60}");
    assert_eq!(streamer.push("\u{597D}".as_bytes()), "");
    assert_eq!(streamer.stopped(), Some(0));
    // At the end of the text, a beginning was none.
    let mut open = self::streamer(&["\u{4F60}\u{597D}"], StopText::Drop);
    assert_eq!(open.push("\u{4F60}".as_bytes()), "");
    assert_eq!(open.push(b"\xE5\xA5"), "");
    assert_eq!(open.finish(), "\u{4F60}\u{FFFD}");
    assert_eq!((open.held(), open.stopped()), ("", None));
}

#[test]
fn strings_that_repeat_are_read_in_linear_time() {
    // A quadratic search would take 10^11 steps.
    let stop = format!("{}b", "a".repeat(300_000));
    let mut streamer = streamer(&[&stop], StopText::Drop);
    let token = "a".repeat(100_000);
    let mut n = 0;
    for _ in 0..6 {
        n += streamer.push(token.as_bytes()).len();
    }
    assert_eq!((n, streamer.held().len()), (300_000, 300_000));
    assert_eq!(streamer.push(b"b"), "");
    assert_eq!(streamer.stopped(), Some(0));
}

/// Counts upwards from 0 in digits, with token 9 as the end.
fn count(stops: &[&str], most: usize, on_text: impl FnMut(&str) -> ControlFlow<()>) -> Generation {
    let step = |new: &[u32]| -> Result<Array1<f32>, Infallible> {
        let next = new[new.len() - 1] as usize + 1;
        Ok(Array1::from_shape_fn(10, |i| {
            f32::from(u8::from(i == next))
        }))
    };
    let config = GenerateConfig::new(SamplingConfig::greedy(), most).with_stop_ids(vec![9]);
    let bytes_of = |token: u32| {
        if token == 9 {
            String::new()
        } else {
            token.to_string()
        }
    };
    let mut streamer = streamer(stops, StopText::Drop);
    generate_text(&[0], &config, &mut streamer, bytes_of, step, on_text).unwrap()
}

#[test]
fn a_generation_of_text_ends_for_a_reason() {
    let text = |stops: &[&str], most: usize| {
        let mut text = String::new();
        let generation = count(stops, most, |piece| {
            text.push_str(piece);
            ControlFlow::Continue(())
        });
        (text, generation.tokens.len(), generation.stop)
    };
    let owned = |text: &str, n: usize, stop| (text.to_owned(), n, stop);
    assert_eq!(
        text(&["7", "45"], 100),
        owned("123", 5, StopReason::StopString(1))
    );
    assert_eq!(
        text(&["67x"], 100),
        owned("12345678", 9, StopReason::StopToken(9))
    );
    // What is held back comes at the end.
    assert_eq!(text(&["34"], 3), owned("123", 3, StopReason::MaxNewTokens));
    // The stop string is complete with the last token that is allowed.
    assert_eq!(text(&["34"], 4), owned("12", 4, StopReason::StopString(0)));
}

#[test]
fn whoever_reads_the_text_may_break() {
    let mut pieces = Vec::new();
    let generation = count(&["5x"], 100, |piece| {
        pieces.push(piece.to_owned());
        if piece.contains('5') {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    // "5" waits until "6" shows that it begins no stop string; nothing comes after the break.
    assert_eq!(pieces, ["1", "2", "3", "4", "56"]);
    assert_eq!(
        (generation.tokens.len(), generation.stop),
        (6, StopReason::Callback)
    );
}
