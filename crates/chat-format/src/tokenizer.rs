//! What this crate needs of a tokenizer.

/// A tokenizer, as far as a chat format needs one.
///
/// ```
/// use llm_chat_format::Tokenizer;
///
/// /// Bytes, and one control token after them.
/// struct Bytes;
///
/// impl Tokenizer for Bytes {
///     type Error = std::convert::Infallible;
///
///     fn encode_text(&self, text: &str) -> Result<Vec<u32>, Self::Error> {
///         Ok(text.bytes().map(u32::from).collect())
///     }
///
///     fn control_id(&self, name: &str) -> Option<u32> {
///         (name == "<|user|>").then_some(256)
///     }
/// }
/// # assert_eq!(Bytes.encode_text("a"), Ok(vec![97]));
/// # assert_eq!(Bytes.control_id("<|user|>"), Some(256));
/// ```
pub trait Tokenizer {
    /// Why a text has no ids.
    type Error;

    /// The ids of a text, without any token added around it.
    ///
    /// A text that contains the name of a control token is text; [`encode`](crate::encode) refuses
    /// a tokenizer that makes a control token out of it. What the tokenizer itself adds to a text,
    /// as `SentencePiece`'s leading space, stays.
    ///
    /// # Errors
    ///
    /// The tokenizer's own, for example for characters that it does not know.
    fn encode_text(&self, text: &str) -> Result<Vec<u32>, Self::Error>;

    /// The id of the control token of this name.
    fn control_id(&self, name: &str) -> Option<u32>;
}

impl<T: Tokenizer + ?Sized> Tokenizer for &T {
    type Error = T::Error;

    fn encode_text(&self, text: &str) -> Result<Vec<u32>, Self::Error> {
        (**self).encode_text(text)
    }

    fn control_id(&self, name: &str) -> Option<u32> {
        (**self).control_id(name)
    }
}
