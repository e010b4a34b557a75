//! What a widget refuses; the page shows the message.

use llm_posenc::PosencError;

/// Everything that a reader can ask for and not get.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WidgetError {
    /// The position is not a whole number of tokens, or too far away to draw.
    #[error("position must be a whole number in 0..={most}, got {got}")]
    Position {
        /// What came.
        got: f64,
        /// The last position.
        most: usize,
    },
    /// There is no choice of that name.
    #[error("{control} must be one of {known:?}, got {got:?}")]
    Choice {
        /// The control with the choices.
        control: &'static str,
        /// What came.
        got: String,
        /// What there is.
        known: &'static [&'static str],
    },
    /// The crate that does the work refused.
    #[error(transparent)]
    Posenc(#[from] PosencError),
}
