//! The format of ChatGLM3-6B.
//!
//! ```text
//! [gMASK]sop<|system|>⏎system<|user|>⏎question<|assistant|>metadata⏎answer<|user|>…
//! ```
//!
//! Each message is a role token, the metadata with a line break, and the content; the two texts
//! are encoded separately. A `SentencePiece` tokenizer begins each of them with a space of its own,
//! which is why printed prompts show `<|user|>⏎ question`; the space is not part of the format.

use crate::{ChatFormatError, Ending, Message, Part, Piece, Rendered, Role, Segment, Tokenizer};

/// The control tokens of the format.
pub const CONTROL_TOKENS: &[&str] = &[
    "[gMASK]",
    "sop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "</s>",
];

/// The token that ends a training example, and one of those that stop a generation.
pub const END_OF_TEXT: &str = "</s>";

/// The two tokens at the start.
const START: [&str; 2] = ["[gMASK]", "sop"];

/// Renders a conversation as segments.
///
/// With [`Ending::GenerationPrompt`] the last segment is the token `<|assistant|>` alone: the
/// model itself writes the line break (and a tool's name before it).
///
/// # Errors
///
/// ChatGLM3's own code takes any list of messages. This one refuses what its model never saw:
///
/// - [`ChatFormatError::EmptyConversation`] if there is no message.
/// - [`ChatFormatError::EmptyContent`] if a user message is empty. Other messages may be: a tool
///   may give nothing back.
/// - [`ChatFormatError::MetadataLines`] if the metadata has a line break.
/// - [`ChatFormatError::Order`] if a system message is not the first, an assistant message stands
///   before any user message, or an observation does not follow an assistant message.
/// - [`ChatFormatError::NothingToAnswer`] if a generation prompt would follow a system or
///   assistant message.
///
/// # Example
///
/// ```
/// use llm_chat_format::{Ending, Message, chatglm3};
///
/// let messages = [Message::system("Be short."), Message::user("你好")];
/// let rendered = chatglm3::render(&messages, Ending::GenerationPrompt)?;
/// assert_eq!(
///     rendered.to_string(),
///     "[gMASK]sop<|system|>\nBe short.<|user|>\n你好<|assistant|>"
/// );
/// # Ok::<(), llm_chat_format::ChatFormatError>(())
/// ```
///
/// Source: `tokenization_chatglm.py` of `THUDM/chatglm3-6b`, `build_single_message`.
pub fn render(messages: &[Message], ending: Ending) -> Result<Rendered, ChatFormatError> {
    check(messages, ending)?;
    let control = |name, part, message| Segment {
        piece: Piece::Control(name),
        part,
        message,
    };
    let mut segments: Vec<Segment> = START
        .into_iter()
        .map(|name| control(name, Part::Start, None))
        .collect();
    for (index, message) in messages.iter().enumerate() {
        let from = Some((index, message.role));
        let text = |text, part| Segment {
            piece: Piece::Text(text),
            part,
            message: from,
        };
        segments.push(control(role_token(message.role), Part::Opening, from));
        segments.push(text(format!("{}\n", message.metadata), Part::Metadata));
        segments.push(text(message.content.clone(), Part::Content));
    }
    match ending {
        Ending::GenerationPrompt => {
            segments.push(control(
                role_token(Role::Assistant),
                Part::GenerationPrompt,
                None,
            ));
        }
        Ending::EndOfText => segments.push(control(END_OF_TEXT, Part::End, None)),
        Ending::Open => {}
    }
    Ok(Rendered {
        segments,
        control_tokens: CONTROL_TOKENS,
    })
}

/// Reads the messages back from segments: the inverse of [`render`], for any [`Ending`].
///
/// It looks at the pieces alone, not at where they are said to come from.
///
/// # Errors
///
/// [`ChatFormatError::UnexpectedSegment`] if the segments do not follow the format.
///
/// # Example
///
/// ```
/// use llm_chat_format::{Ending, Message, chatglm3};
///
/// let messages = [Message::user("what is <|system|>?")];
/// let rendered = chatglm3::render(&messages, Ending::GenerationPrompt)?;
/// assert_eq!(chatglm3::parse(&rendered.segments)?, messages);
/// # Ok::<(), llm_chat_format::ChatFormatError>(())
/// ```
pub fn parse(segments: &[Segment]) -> Result<Vec<Message>, ChatFormatError> {
    let unexpected = |index, expected| ChatFormatError::UnexpectedSegment { index, expected };
    let piece = |index: usize| segments.get(index).map(|segment| &segment.piece);
    for (index, name) in START.into_iter().enumerate() {
        if piece(index) != Some(&Piece::Control(name)) {
            return Err(unexpected(index, "[gMASK] and then sop"));
        }
    }
    let mut messages = Vec::new();
    let mut index = START.len();
    while let Some(opening) = piece(index) {
        let last = index + 1 == segments.len();
        let role = match opening {
            Piece::Control(END_OF_TEXT) if last => break,
            Piece::Control(name) => role_of(name),
            Piece::Text(_) => None,
        };
        let role = role.ok_or(unexpected(index, "a role token"))?;
        if last && role == Role::Assistant {
            break; // a generation prompt
        }
        let Some(Piece::Text(line)) = piece(index + 1) else {
            return Err(unexpected(index + 1, "a line of metadata"));
        };
        let metadata = line
            .strip_suffix('\n')
            .filter(|metadata| !metadata.contains('\n'))
            .ok_or(unexpected(index + 1, "a line of metadata"))?;
        let Some(Piece::Text(content)) = piece(index + 2) else {
            return Err(unexpected(index + 2, "the content of a message"));
        };
        messages.push(Message::new(role, content).with_metadata(metadata));
        index += 3;
    }
    Ok(messages)
}

/// The ids that end an answer: the end of text, and the openings of turns that are not the
/// model's, `<|user|>` and `<|observation|>`. Those that the tokenizer does not have are left out.
#[must_use]
pub fn stop_ids<T: Tokenizer>(tokenizer: &T) -> Vec<u32> {
    [
        END_OF_TEXT,
        role_token(Role::User),
        role_token(Role::Observation),
    ]
    .into_iter()
    .filter_map(|name| tokenizer.control_id(name))
    .collect()
}

/// The control token that opens a message of this role.
#[must_use]
pub const fn role_token(role: Role) -> &'static str {
    match role {
        Role::System => "<|system|>",
        Role::User => "<|user|>",
        Role::Assistant => "<|assistant|>",
        Role::Observation => "<|observation|>",
    }
}

fn role_of(token: &str) -> Option<Role> {
    [Role::System, Role::User, Role::Assistant, Role::Observation]
        .into_iter()
        .find(|&role| role_token(role) == token)
}

fn check(messages: &[Message], ending: Ending) -> Result<(), ChatFormatError> {
    let Some(last) = messages.last() else {
        return Err(ChatFormatError::EmptyConversation);
    };
    let mut previous = None;
    for (index, message) in messages.iter().enumerate() {
        let role = message.role;
        let in_order = match role {
            Role::System => previous.is_none(),
            Role::User => true,
            Role::Assistant => !matches!(previous, None | Some(Role::System)),
            Role::Observation => previous == Some(Role::Assistant),
        };
        if !in_order {
            return Err(ChatFormatError::Order {
                index,
                role,
                previous,
            });
        }
        if role == Role::User && message.content.is_empty() {
            return Err(ChatFormatError::EmptyContent { index });
        }
        if message.metadata.contains('\n') {
            return Err(ChatFormatError::MetadataLines { index });
        }
        previous = Some(role);
    }
    let answerable = matches!(last.role, Role::User | Role::Observation);
    if ending == Ending::GenerationPrompt && !answerable {
        return Err(ChatFormatError::NothingToAnswer { last: last.role });
    }
    Ok(())
}
