//! The named conventions on one conversation, token by token.

use llm_chat_format::{Ending, LossMask, Message, Tokenizer, chatglm3, encode};

use crate::stand_ins::Chars;

/// The tokens that are learned: characters as they are, control tokens by name.
fn learned(messages: &[Message], ending: Ending, mask: LossMask) -> Vec<String> {
    let rendered = chatglm3::render(messages, ending).expect("a valid case");
    let encoded = encode(&rendered, &Chars, mask).expect("a valid case");
    let name = |id: u32| {
        let control = chatglm3::CONTROL_TOKENS
            .iter()
            .find(|t| Chars.control_id(t) == Some(id));
        control.map_or_else(
            || char::from_u32(id).expect("a valid case").to_string(),
            |name| (*name).to_owned(),
        )
    };
    let pairs = encoded.ids.iter().zip(&encoded.loss_mask);
    pairs
        .filter(|(_, learned)| **learned)
        .map(|(id, _)| name(*id))
        .collect()
}

fn conversation() -> Vec<Message> {
    vec![
        Message::system("s"),
        Message::user("q"),
        Message::assistant("ab").with_metadata("t"),
        Message::observation("o"),
        Message::assistant("c"),
        Message::user("r"),
        Message::assistant("d"),
    ]
}

#[test]
fn next_role_learns_the_line_the_content_and_what_comes_after() {
    assert_eq!(
        learned(&conversation(), Ending::EndOfText, LossMask::NextRole),
        [
            "t",
            "\n",
            "a",
            "b",
            "<|observation|>",
            "\n",
            "c",
            "<|user|>",
            "\n",
            "d",
            "</s>"
        ]
    );
}

#[test]
fn content_and_stop_leaves_out_the_line() {
    assert_eq!(
        learned(&conversation(), Ending::EndOfText, LossMask::ContentAndStop),
        ["a", "b", "<|observation|>", "c", "<|user|>", "d", "</s>"]
    );
}

#[test]
fn content_only_never_learns_to_stop() {
    let learned = learned(&conversation(), Ending::EndOfText, LossMask::ContentOnly);
    assert_eq!(learned, ["a", "b", "c", "d"]);
}

#[test]
fn nothing_is_learned_after_a_turn_that_is_not_the_models() {
    for mask in [
        LossMask::NextRole,
        LossMask::ContentAndStop,
        LossMask::ContentOnly,
    ] {
        let only_user = [Message::system("s"), Message::user("q")];
        assert!(learned(&only_user, Ending::EndOfText, mask).is_empty());
        assert!(learned(&only_user, Ending::GenerationPrompt, mask).is_empty());
    }
}

#[test]
fn an_open_conversation_has_no_stop_after_the_last_turn() {
    let messages = [Message::user("q"), Message::assistant("a")];
    assert_eq!(
        learned(&messages, Ending::Open, LossMask::NextRole),
        ["\n", "a"]
    );
}

#[test]
fn an_empty_answer_learns_to_stop() {
    let messages = [Message::user("q"), Message::assistant("")];
    assert_eq!(
        learned(&messages, Ending::EndOfText, LossMask::ContentAndStop),
        ["</s>"]
    );
}
