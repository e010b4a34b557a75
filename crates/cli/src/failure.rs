//! What can go wrong, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use llm_blocks::sampling::SamplingError;
use llm_blocks::tiny_model::TinyModelError;

/// Exit code after Ctrl-C: 128 and the number of the signal.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why the program ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller asked for something impossible: exit code 2.
    Usage(Text),
    /// It did not work: exit code 1.
    Failed(Text),
    /// Ctrl-C: exit code 130, nothing to say.
    Interrupted,
    /// Nobody reads the output any more: exit code 0, nothing to say.
    OutputClosed,
}

/// What is said about it.
#[derive(Debug)]
pub(crate) struct Text {
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(Text {
            message: message.into(),
            hint: None,
        })
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Text {
            message: message.into(),
            hint: None,
        })
    }

    /// Adds what the caller can do about it.
    pub(crate) fn with_hint(mut self, new: &str) -> Self {
        if let Self::Usage(text) | Self::Failed(text) = &mut self {
            text.hint = Some(new.to_owned());
        }
        self
    }

    /// Puts words before the message: of what it speaks.
    pub(crate) fn about(mut self, subject: &str) -> Self {
        if let Self::Usage(text) | Self::Failed(text) = &mut self {
            text.message = format!("{subject}: {}", text.message);
        }
        self
    }

    /// Says it on standard error.
    pub(crate) fn say(&self) {
        if let Self::Usage(text) | Self::Failed(text) = self {
            crate::output::note(&format!("error: {}", text.message));
            if let Some(hint) = &text.hint {
                crate::output::note(&format!("hint: {hint}"));
            }
        }
    }

    /// Says it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        self.say();
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
            Self::Interrupted => ExitCode::from(INTERRUPTED),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<io::Error> for Failure {
    /// Errors of writing to standard output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::failed(format!("cannot write the output: {error}"))
    }
}

impl From<SamplingError> for Failure {
    fn from(error: SamplingError) -> Self {
        let hint = match error {
            SamplingError::Temperature(_) => {
                "leave --temperature, --top-k and --top-p out to take the likeliest token each time"
            }
            SamplingError::TopP(_) => "leave --top-p out to draw among all tokens",
            SamplingError::TemperatureOverflow { .. } => "take a temperature nearer to 1",
            SamplingError::NotInDialect { .. } => {
                "take another --dialect, or leave this option out; hugging-face has most"
            }
            SamplingError::DialectRange { .. }
            | SamplingError::MinP(_)
            | SamplingError::TypicalP(_)
            | SamplingError::RepetitionPenalty(_)
            | SamplingError::PresencePenalty { .. }
            | SamplingError::NgramSize(_) => "leave the option out to do without it",
            error => return Self::failed(error.to_string()),
        };
        Self::usage(error.to_string()).with_hint(hint)
    }
}

impl From<TinyModelError> for Failure {
    fn from(error: TinyModelError) -> Self {
        let message = error.to_string();
        match error {
            TinyModelError::UnknownCharacters { .. } => Self::usage(message).with_hint(
                "the model knows ASCII and the Chinese characters of its training data; say it with those",
            ),
            TinyModelError::PromptTooLong { .. } => Self::usage(message)
                .with_hint("shorten the prompt; in a conversation, /reset forgets what was said"),
            TinyModelError::TooManyProblems { .. } => Self::usage(message),
            TinyModelError::ChatFormat(_) => Self::usage(message),
            TinyModelError::Sampling(error) => error.into(),
            _ => Self::failed(message),
        }
    }
}
