//! The tokenizer: one token for each character, and text stays text.

use llm_tiny_model::TinyModelError;
use llm_tiny_model::tokenizer::{CONTROL_TOKENS, ControlTokens, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;

fn vocabulary_text() -> impl Strategy<Value = String> {
    let characters: Vec<char> = Tokenizer::embedded()
        .tokens()
        .iter()
        .skip(CONTROL_TOKENS.len())
        .map(|token| token.chars().next().expect("no token is empty"))
        .collect();
    let piece = prop_oneof![
        4 => prop::sample::select(characters).prop_map(String::from),
        1 => prop::sample::select(CONTROL_TOKENS.to_vec()).prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn decoding_gives_the_text_back(text in vocabulary_text()) {
        let tokenizer = Tokenizer::embedded();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(ids.len(), text.chars().count());
        prop_assert_eq!(tokenizer.decode(&ids, ControlTokens::Skip).unwrap(), text.clone());
        prop_assert_eq!(tokenizer.decode(&ids, ControlTokens::Name).unwrap(), text);
    }

    #[test]
    fn text_never_becomes_a_control_token(text in vocabulary_text()) {
        let tokenizer = Tokenizer::embedded();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert!(ids.iter().all(|&id| !tokenizer.is_control(id)));
    }

    #[test]
    fn any_text_is_encoded_or_its_unknown_characters_are_named(text in "\\PC{0,30}") {
        match Tokenizer::embedded().encode(&text) {
            Ok(ids) => prop_assert_eq!(ids.len(), text.chars().count()),
            Err(TinyModelError::UnknownCharacters { characters }) => {
                let mut places = characters.iter().map(|&c| text.find(c).unwrap());
                prop_assert!(places.clone().zip(places.by_ref().skip(1)).all(|(a, b)| a < b));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

#[test]
fn control_tokens_have_the_first_ids() {
    let tokenizer = Tokenizer::embedded();
    for (id, name) in CONTROL_TOKENS.iter().enumerate() {
        assert_eq!(tokenizer.control_id(name), Some(id as u32));
        assert!(tokenizer.is_control(id as u32));
        assert_eq!(
            tokenizer.decode(&[id as u32], ControlTokens::Skip).unwrap(),
            ""
        );
        assert_eq!(
            tokenizer.decode(&[id as u32], ControlTokens::Name).unwrap(),
            *name
        );
        assert_eq!(tokenizer.encode(name).unwrap().len(), name.chars().count());
    }
    assert_eq!(tokenizer.control_id("[MASK]"), None);
    assert_eq!(tokenizer.control_id("a"), None);
}

#[test]
fn tokens_are_distinct() {
    let tokens = Tokenizer::embedded().tokens();
    let distinct: std::collections::HashSet<&String> = tokens.iter().collect();
    assert_eq!(distinct.len(), tokens.len());
}

#[test]
fn unknown_characters_are_named_once_and_in_order() {
    let error = Tokenizer::embedded().encode("鸡饕a餮饕\u{7}").unwrap_err();
    let TinyModelError::UnknownCharacters { characters } = &error else {
        panic!("{error}")
    };
    assert_eq!(*characters, ['饕', '餮', '\u{7}']);
    let message = "every character must be in the vocabulary, got '饕', '餮', '\\u{7}'";
    assert_eq!(error.to_string(), message);
}

#[test]
fn an_id_beyond_the_vocabulary_is_refused() {
    let tokenizer = Tokenizer::embedded();
    let vocab = tokenizer.vocab();
    let id = vocab as u32;
    let error = tokenizer.decode(&[9, id], ControlTokens::Skip).unwrap_err();
    let TinyModelError::TokenId {
        id: got,
        vocab: size,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((got, size), (id, vocab));
}

#[test]
fn the_committed_tokenizer_file_is_the_one_of_the_code() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tokenizer.json");
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    let made = Tokenizer::embedded().tokenizer_json();
    assert!(
        committed == made,
        "run: cargo run -p llm-tiny-model --example write_tokenizer"
    );
}

/// Ids that Hugging Face's `tokenizers` gives for the committed file.
#[test]
fn ids_equal_those_of_the_tokenizers_library() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizer");
    let tokenizer = Tokenizer::embedded();
    let mut cases = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            match case.get("ids") {
                Some(ids) => {
                    let ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
                    assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
                    let decoded = case["decoded"].as_str().unwrap();
                    assert_eq!(
                        tokenizer.decode(&ids, ControlTokens::Skip).unwrap(),
                        decoded
                    );
                }
                None => {
                    assert!(case["error"].is_string());
                    assert!(tokenizer.encode(text).is_err(), "{text:?}");
                }
            }
            cases += 1;
        }
        for (name, id) in file["control_tokens"].as_object().unwrap() {
            assert_eq!(
                tokenizer.control_id(name).map(u64::from),
                id.as_u64(),
                "{name}"
            );
        }
    }
    assert!(cases > 10, "{cases}");
}
