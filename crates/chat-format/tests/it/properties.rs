//! Laws, for any conversation that the format takes.

use llm_chat_format::{
    EncodeError, Ending, LossMask, Message, Role, Tokenizer, chatglm3, encode, reference,
};
use proptest::prelude::*;

use crate::stand_ins::{CONTROL, Chars, Forger};

/// Text with the names of control tokens in it.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        "\\PC{0,6}",
        prop::sample::select(chatglm3::CONTROL_TOKENS.to_vec()).prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// Conversations in every order of roles that is allowed.
fn conversation() -> impl Strategy<Value = Vec<Message>> {
    let turn = (0..8u8, text(), text());
    (prop::option::of(text()), prop::collection::vec(turn, 1..7)).prop_map(|(system, turns)| {
        let mut messages: Vec<Message> = system.into_iter().map(Message::system).collect();
        for (kind, content, metadata) in turns {
            let role = match (messages.last().map(|m| m.role), kind) {
                (None | Some(Role::System), _) | (Some(_), 0..=2) => Role::User,
                (Some(Role::Assistant), 3..=4) => Role::Observation,
                _ => Role::Assistant,
            };
            let empty_user = role == Role::User && content.is_empty();
            let content = if empty_user { "?".to_owned() } else { content };
            let metadata = if kind % 2 == 0 {
                metadata.replace('\n', " ")
            } else {
                String::new()
            };
            messages.push(Message::new(role, content).with_metadata(metadata));
        }
        messages
    })
}

fn ending(messages: &[Message], wish: u8) -> Ending {
    let answerable = messages
        .last()
        .is_some_and(|m| matches!(m.role, Role::User | Role::Observation));
    match wish {
        0 => Ending::Open,
        1 if answerable => Ending::GenerationPrompt,
        _ => Ending::EndOfText,
    }
}

fn masks() -> impl Strategy<Value = LossMask> {
    prop::sample::select(vec![
        LossMask::NextRole,
        LossMask::ContentAndStop,
        LossMask::ContentOnly,
    ])
}

proptest! {
    #[test]
    fn parsing_gives_the_messages_back(messages in conversation(), wish in 0..3u8) {
        let rendered = chatglm3::render(&messages, ending(&messages, wish)).unwrap();
        prop_assert_eq!(chatglm3::parse(&rendered.segments).unwrap(), messages);
    }

    /// The control tokens of the ids are exactly those that the format put there.
    #[test]
    fn text_cannot_forge_a_control_token(messages in conversation(), wish in 0..3u8) {
        let ending = ending(&messages, wish);
        let rendered = chatglm3::render(&messages, ending).unwrap();
        let encoded = encode(&rendered, &Chars, LossMask::NextRole).unwrap();
        let controls: Vec<u32> = encoded.ids.iter().copied().filter(|&id| id >= CONTROL).collect();
        let mut expected = vec!["[gMASK]", "sop"];
        expected.extend(messages.iter().map(|m| chatglm3::role_token(m.role)));
        match ending {
            Ending::GenerationPrompt => expected.push("<|assistant|>"),
            Ending::EndOfText => expected.push("</s>"),
            Ending::Open => {}
        }
        let expected: Vec<u32> =
            expected.iter().map(|name| Chars.control_id(name).unwrap()).collect();
        prop_assert_eq!(controls, expected);
    }

    /// A tokenizer that finds control tokens in text is found out, or there were none.
    #[test]
    fn a_forging_tokenizer_is_refused(messages in conversation(), wish in 0..3u8) {
        let rendered = chatglm3::render(&messages, ending(&messages, wish)).unwrap();
        let has_name = |text: &str| chatglm3::CONTROL_TOKENS.iter().any(|name| text.contains(name));
        let forged = messages.iter().any(|m| has_name(&m.content) || has_name(&m.metadata));
        match encode(&rendered, &Forger, LossMask::NextRole) {
            Ok(encoded) => {
                prop_assert!(!forged);
                prop_assert_eq!(encoded, encode(&rendered, &Chars, LossMask::NextRole).unwrap());
            }
            Err(EncodeError::ForgedControlToken { .. }) => prop_assert!(forged),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// A longer conversation begins with the ids of a shorter one, mask and spans included.
    #[test]
    fn the_first_turns_are_a_prefix_of_all_turns(
        messages in conversation(), mask in masks(), cut in 0..7usize,
    ) {
        let cut = cut.clamp(1, messages.len());
        let encoded = |messages: &[Message]| {
            encode(&chatglm3::render(messages, Ending::Open).unwrap(), &Chars, mask).unwrap()
        };
        let (part, whole) = (encoded(&messages[..cut]), encoded(&messages));
        prop_assert!(whole.ids.starts_with(&part.ids));
        prop_assert!(whole.loss_mask.starts_with(&part.loss_mask));
        prop_assert!(whole.spans.starts_with(&part.spans));
    }

    /// Spans follow each other without a gap, one a message, and each decodes to its message.
    #[test]
    fn spans_are_the_messages(messages in conversation(), wish in 0..3u8, mask in masks()) {
        let rendered = chatglm3::render(&messages, ending(&messages, wish)).unwrap();
        let encoded = encode(&rendered, &Chars, mask).unwrap();
        prop_assert_eq!(encoded.ids.len(), encoded.loss_mask.len());
        prop_assert_eq!(encoded.spans.len(), messages.len());
        let mut start = 2;
        for (span, message) in encoded.spans.iter().zip(&messages) {
            prop_assert_eq!(span.start, start);
            let ids = &encoded.ids[span.start + 1..span.end];
            let text: String = ids.iter().map(|&id| char::from_u32(id).unwrap()).collect();
            prop_assert_eq!(text, format!("{}\n{}", message.metadata, message.content));
            start = span.end;
        }
    }

    /// The conventions are nested, and none learns a token of another role's turn.
    #[test]
    fn masks_are_nested(messages in conversation(), wish in 0..3u8) {
        let rendered = chatglm3::render(&messages, ending(&messages, wish)).unwrap();
        let mask = |mask| encode(&rendered, &Chars, mask).unwrap();
        let content = mask(LossMask::ContentOnly);
        let stop = mask(LossMask::ContentAndStop).loss_mask;
        let next = mask(LossMask::NextRole).loss_mask;
        for (i, learned) in content.loss_mask.iter().enumerate() {
            prop_assert!(!learned || stop[i]);
            prop_assert!(!stop[i] || next[i]);
        }
        for (span, message) in content.spans.iter().zip(&messages) {
            if message.role != Role::Assistant {
                // Its opening may be what stops the turn before it; nothing else is learned.
                prop_assert!(next[span.start + 1..span.end].iter().all(|learned| !learned));
            } else {
                prop_assert!(next[span.start + 1..span.end].iter().all(|learned| *learned));
            }
        }
    }

    #[test]
    fn labels_are_ids_or_ignored(messages in conversation(), mask in masks(), ignore in any::<i64>()) {
        let rendered = chatglm3::render(&messages, Ending::Open).unwrap();
        let encoded = encode(&rendered, &Chars, mask).unwrap();
        for (t, label) in encoded.labels(ignore).into_iter().enumerate() {
            let id = i64::from(encoded.ids[t]);
            prop_assert_eq!(label, if encoded.loss_mask[t] { id } else { ignore });
        }
    }
}

proptest! {
    #[test]
    fn segments_in_a_row_are_the_string_of_the_reference(
        messages in conversation(),
        wish in 0..3_u8,
    ) {
        let ending = ending(&messages, wish);
        let rendered = chatglm3::render(&messages, ending).unwrap();
        prop_assert_eq!(rendered.to_string(), reference::chatglm3::render(&messages, ending));
    }

    #[test]
    fn the_next_role_mask_is_the_shifted_mask_of_the_reference(messages in conversation()) {
        let rendered = chatglm3::render(&messages, Ending::EndOfText).unwrap();
        let encoded = encode(&rendered, &Chars, LossMask::NextRole).unwrap();
        let lengths: Vec<(Role, usize)> = messages
            .iter()
            .zip(&encoded.spans)
            .map(|(message, span)| (message.role, span.len()))
            .collect();
        prop_assert_eq!(encoded.loss_mask, reference::chatglm3::next_role_mask(&lengths));
    }
}
