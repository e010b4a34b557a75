//! The errors of this crate: of rendering, and of turning segments into token ids.

use crate::Role;

/// Conversations that a format refuses to render, and segments that it cannot read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatFormatError {
    /// There is no message.
    #[error("a conversation must have at least 1 message, got 0")]
    EmptyConversation,
    /// A user says nothing.
    #[error("the content of a user message must not be empty, got an empty message {index}")]
    EmptyContent {
        /// Which message, from 0.
        index: usize,
    },
    /// The metadata has a line break, which ends it in the format.
    #[error("metadata must be a single line, got a line break in message {index}")]
    MetadataLines {
        /// Which message, from 0.
        index: usize,
    },
    /// A message stands where its role cannot.
    #[error(
        "a {} message must {}, got one {} (message {index})",
        .role.name(), place(*.role), after(*.previous)
    )]
    Order {
        /// Which message, from 0.
        index: usize,
        /// Its role.
        role: Role,
        /// The role of the message before it.
        previous: Option<Role>,
    },
    /// The model is asked to answer its own words, or nothing but a system message.
    #[error(
        "a generation prompt must follow a user or observation message, got one after {}",
        .last.name()
    )]
    NothingToAnswer {
        /// The role of the last message.
        last: Role,
    },
    /// A segment is not what the format has at its place.
    #[error("segment {index} must be {expected}, got another")]
    UnexpectedSegment {
        /// Which segment, from 0; the number of segments if they end too early.
        index: usize,
        /// What the format has there.
        expected: &'static str,
    },
}

/// What can go wrong when segments become token ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError<E> {
    /// The tokenizer has no such control token.
    #[error("the tokenizer must have the control token {name:?}, got none")]
    ControlToken {
        /// The name of the token.
        name: &'static str,
    },
    /// The tokenizer made a control token out of text.
    #[error(
        "text must never encode to a control token, got {name:?} ({id}) from segment {segment}"
    )]
    ForgedControlToken {
        /// The name of the token.
        name: &'static str,
        /// Its id.
        id: u32,
        /// Which segment, from 0.
        segment: usize,
    },
    /// The tokenizer refused a text.
    #[error(transparent)]
    Tokenizer(E),
}

const fn place(role: Role) -> &'static str {
    match role {
        Role::System => "be the first",
        Role::User => "be anywhere",
        Role::Assistant => "follow a user, observation or assistant message",
        Role::Observation => "follow an assistant message",
    }
}

fn after(previous: Option<Role>) -> String {
    previous.map_or_else(
        || "at the start".to_owned(),
        |role| format!("after {}", role.name()),
    )
}
