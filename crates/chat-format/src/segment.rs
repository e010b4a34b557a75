//! A rendered conversation: control tokens and text, told apart by type.

use std::fmt;

use crate::Role;

/// How a rendered conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With the opening of an assistant turn, so that the model answers.
    #[doc(alias = "add_generation_prompt")]
    GenerationPrompt,
    /// With the end-of-text token: a training example.
    EndOfText,
    /// With the last message: more is to come.
    Open,
}

/// What a segment becomes in token ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// One control token, by its name. Only the format makes these.
    Control(&'static str),
    /// Text, encoded on its own and without regard to the names of control tokens.
    Text(String),
}

/// Which part of the format a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// What stands before the first message.
    Start,
    /// What opens a message.
    Opening,
    /// The line of the opening: metadata and line break.
    Metadata,
    /// What is said.
    Content,
    /// What opens the answer to be generated.
    GenerationPrompt,
    /// What ends the conversation.
    End,
}

/// One piece of a rendered conversation, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// The control token or text.
    pub piece: Piece,
    /// Which part of the format it is.
    pub part: Part,
    /// The message it belongs to: its index and role.
    pub message: Option<(usize, Role)>,
}

/// A rendered conversation.
///
/// Its `Display` form is the text that a person would read. It is not meant to be tokenized: in
/// it, text that looks like a control token can no longer be told from one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rendered {
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// All control tokens of the format, also those that this conversation does not use.
    pub control_tokens: &'static [&'static str],
}

impl fmt::Display for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments
            .iter()
            .try_for_each(|segment| match &segment.piece {
                Piece::Control(name) => f.write_str(name),
                Piece::Text(text) => f.write_str(text),
            })
    }
}
