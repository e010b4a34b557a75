//! One test for each thing that is refused.

use llm_chat_format::{
    ChatFormatError, EncodeError, Ending, LossMask, Message, Part, Piece, Role, Segment, chatglm3,
    encode,
};

use crate::stand_ins::{Broken, Chars, Forger, Refused};

fn refused(messages: &[Message], ending: Ending) -> ChatFormatError {
    chatglm3::render(messages, ending).expect_err("refused")
}

#[test]
fn a_conversation_without_messages() {
    for ending in [Ending::Open, Ending::EndOfText, Ending::GenerationPrompt] {
        assert_eq!(refused(&[], ending), ChatFormatError::EmptyConversation);
    }
}

#[test]
fn a_user_who_says_nothing() {
    let messages = [
        Message::user("a"),
        Message::assistant("b"),
        Message::user(""),
    ];
    assert_eq!(
        refused(&messages, Ending::Open),
        ChatFormatError::EmptyContent { index: 2 }
    );
    let empty_tool = [
        Message::user("a"),
        Message::assistant("b"),
        Message::observation(""),
    ];
    assert!(chatglm3::render(&empty_tool, Ending::GenerationPrompt).is_ok());
}

#[test]
fn metadata_of_two_lines() {
    let messages = [Message::user("a").with_metadata("b\nc")];
    assert_eq!(
        refused(&messages, Ending::Open),
        ChatFormatError::MetadataLines { index: 0 }
    );
}

#[test]
fn messages_out_of_order() {
    let order = |index, role, previous| ChatFormatError::Order {
        index,
        role,
        previous,
    };
    for (messages, expected) in [
        (
            vec![Message::assistant("a")],
            order(0, Role::Assistant, None),
        ),
        (
            vec![Message::system("s"), Message::assistant("a")],
            order(1, Role::Assistant, Some(Role::System)),
        ),
        (
            vec![Message::observation("o")],
            order(0, Role::Observation, None),
        ),
        (
            vec![Message::user("u"), Message::observation("o")],
            order(1, Role::Observation, Some(Role::User)),
        ),
        (
            vec![Message::user("u"), Message::system("s")],
            order(1, Role::System, Some(Role::User)),
        ),
        (
            vec![Message::system("s"), Message::system("s")],
            order(1, Role::System, Some(Role::System)),
        ),
    ] {
        assert_eq!(refused(&messages, Ending::Open), expected);
    }
    assert_eq!(
        order(1, Role::System, Some(Role::User)).to_string(),
        "a system message must be the first, got one after user (message 1)"
    );
}

#[test]
fn a_generation_prompt_without_a_question() {
    let answered = [Message::user("a"), Message::assistant("b")];
    let expected = ChatFormatError::NothingToAnswer {
        last: Role::Assistant,
    };
    assert_eq!(refused(&answered, Ending::GenerationPrompt), expected);
    let expected = ChatFormatError::NothingToAnswer { last: Role::System };
    assert_eq!(
        refused(&[Message::system("s")], Ending::GenerationPrompt),
        expected
    );
}

#[test]
fn segments_that_are_no_conversation() {
    let rendered = chatglm3::render(&[Message::user("a")], Ending::EndOfText).unwrap();
    let full = rendered.segments; // [gMASK] sop <|user|> line content </s>
    let error = |segments: &[Segment]| chatglm3::parse(segments).unwrap_err();
    let expect = |index, expected| ChatFormatError::UnexpectedSegment { index, expected };
    assert_eq!(error(&full[1..]), expect(0, "[gMASK] and then sop"));
    assert_eq!(error(&full[..1]), expect(1, "[gMASK] and then sop"));
    assert_eq!(error(&full[..3]), expect(3, "a line of metadata"));
    assert_eq!(error(&full[..4]), expect(4, "the content of a message"));
    let with = |index: usize, piece: Piece| {
        let mut changed = full.clone();
        changed[index].piece = piece;
        changed
    };
    assert_eq!(
        error(&with(2, Piece::Control("sop"))),
        expect(2, "a role token")
    );
    assert_eq!(
        error(&with(2, Piece::Text("a".into()))),
        expect(2, "a role token")
    );
    assert_eq!(
        error(&with(3, Piece::Text("no break".into()))),
        expect(3, "a line of metadata")
    );
    assert_eq!(
        error(&with(3, Piece::Text("a\nb\n".into()))),
        expect(3, "a line of metadata")
    );
    let mut more = full.clone();
    more.push(Segment {
        piece: Piece::Control("</s>"),
        part: Part::End,
        message: None,
    });
    assert_eq!(error(&more), expect(5, "a role token"));
}

#[test]
fn a_tokenizer_without_a_control_token() {
    let messages = [
        Message::user("a"),
        Message::assistant("b"),
        Message::observation("c"),
    ];
    let rendered = chatglm3::render(&messages, Ending::Open).unwrap();
    let error = encode(&rendered, &Broken, LossMask::NextRole).unwrap_err();
    assert_eq!(
        error,
        EncodeError::ControlToken {
            name: "<|observation|>"
        }
    );
    // One that is not needed may be missing.
    let rendered = chatglm3::render(&messages[..2], Ending::EndOfText).unwrap();
    assert!(encode(&rendered, &Broken, LossMask::NextRole).is_ok());
}

#[test]
fn a_tokenizer_that_forges_control_tokens() {
    // `<|observation|>` occurs in the text only.
    let messages = [Message::user("a<|observation|>")];
    let rendered = chatglm3::render(&messages, Ending::Open).unwrap();
    let error = encode(&rendered, &Forger, LossMask::NextRole).unwrap_err();
    let (name, id) = ("<|observation|>", 0x11_0005);
    assert_eq!(
        error,
        EncodeError::ForgedControlToken {
            name,
            id,
            segment: 4
        }
    );
    assert!(encode(&rendered, &Chars, LossMask::NextRole).is_ok());
}

#[test]
fn a_tokenizer_that_refuses_a_text() {
    let rendered = chatglm3::render(&[Message::user("a!")], Ending::Open).unwrap();
    let error = encode(&rendered, &Broken, LossMask::NextRole).unwrap_err();
    assert_eq!(error, EncodeError::Tokenizer(Refused));
    assert_eq!(error.to_string(), "no exclamation marks, please");
}
