//! Who said what: the roles and the messages of a conversation.

/// Who a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions above the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool gave back.
    #[doc(alias = "tool")]
    Observation,
}

impl Role {
    /// The role in lower case: `system`, `user`, `assistant`, `observation`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Observation => "observation",
        }
    }
}

/// One turn of a conversation.
///
/// All fields are text. Nothing in them is ever read as a control token.
///
/// ```
/// use llm_chat_format::{Message, Role};
///
/// let call = Message::assistant("tool_call(city='Paris')").with_metadata("get_weather");
/// assert_eq!(call.role, Role::Assistant);
/// assert_eq!(call.metadata, "get_weather");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What stands on the line of the role token: the tool's name in ChatGLM3. Empty in nearly every message.
    pub metadata: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message without metadata.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            metadata: String::new(),
            content: content.into(),
        }
    }

    /// A message of [`Role::System`].
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// A message of [`Role::User`].
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// A message of [`Role::Assistant`].
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// A message of [`Role::Observation`].
    #[must_use]
    pub fn observation(content: impl Into<String>) -> Self {
        Self::new(Role::Observation, content)
    }

    /// Sets the [`metadata`](Self::metadata).
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }
}
