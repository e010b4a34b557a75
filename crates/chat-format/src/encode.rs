//! From segments to token ids, with the mask of the tokens that are learned.

use std::ops::Range;

use crate::{EncodeError, Part, Piece, Rendered, Role, Segment, Tokenizer};

/// The label that a loss skips: the default of PyTorch's cross-entropy.
pub const IGNORE_INDEX: i64 = -100;

/// Which tokens are targets of the loss. Implementations disagree; each variant names who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossMask {
    /// Everything after the opening of an assistant turn, up to and with the token that follows
    /// the turn: the next role token or the end of text. It is what stops the model.
    ///
    /// ChatGLM3's own fine-tuning code does this by moving the mask one token to the right.
    NextRole,
    /// The content of assistant turns, and the token that follows each of them. Unlike in
    /// [`NextRole`](Self::NextRole), metadata and line break are not learned.
    ///
    /// What `{% generation %}` around content and stop token gives in transformers.
    ContentAndStop,
    /// The content of assistant turns alone: the model never learns to stop.
    ///
    /// What a mask by character spans of the answers gives.
    ContentOnly,
}

/// A conversation as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The token ids.
    pub ids: Vec<u32>, // [seq]
    /// Whether the token at this position is a target. It is predicted from the ones before it:
    /// the shift by one is the loss's part.
    pub loss_mask: Vec<bool>, // [seq]
    /// The tokens of each message, from its role token to the end of its content.
    pub spans: Vec<Range<usize>>, // [messages]
}

impl Encoded {
    /// The ids of the targets, and `ignore_index` elsewhere: labels at the place of their token.
    ///
    /// ```text
    /// label(t) = id(t) if loss_mask(t), else ignore_index
    /// ```
    #[must_use]
    pub fn labels(&self, ignore_index: i64) -> Vec<i64> {
        let pairs = self.ids.iter().zip(&self.loss_mask);
        pairs
            .map(|(&id, &learned)| if learned { i64::from(id) } else { ignore_index })
            .collect()
    }
}

/// Turns a rendered conversation into token ids, with the mask of a named convention.
///
/// Each text segment is encoded on its own.
///
/// # Errors
///
/// - [`EncodeError::ControlToken`] if the tokenizer lacks a control token that is needed.
/// - [`EncodeError::ForgedControlToken`] if the tokenizer makes a control token of the format out
///   of text.
/// - [`EncodeError::Tokenizer`] if it refuses a text.
///
/// # Example
///
/// ```
/// use llm_chat_format::{Ending, IGNORE_INDEX, LossMask, Message, Tokenizer, chatglm3, encode};
///
/// struct Chars;
/// impl Tokenizer for Chars {
///     type Error = std::convert::Infallible;
///     fn encode_text(&self, text: &str) -> Result<Vec<u32>, Self::Error> {
///         Ok(text.chars().map(u32::from).collect())
///     }
///     fn control_id(&self, name: &str) -> Option<u32> {
///         chatglm3::CONTROL_TOKENS.iter().position(|t| *t == name).map(|i| 0x110000 + i as u32)
///     }
/// }
///
/// let messages = [Message::user("1+1"), Message::assistant("2")];
/// let rendered = chatglm3::render(&messages, Ending::EndOfText)?;
/// let encoded = encode(&rendered, &Chars, LossMask::ContentOnly)?;
/// assert_eq!(encoded.ids.len(), 11); // [gMASK] sop <|user|> \n 1 + 1 <|assistant|> \n 2 </s>
/// assert_eq!(encoded.spans, [2..7, 7..10]);
/// let labels = encoded.labels(IGNORE_INDEX);
/// assert_eq!(labels[8..], [-100, i64::from(u32::from('2')), -100]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode<T: Tokenizer>(
    rendered: &Rendered,
    tokenizer: &T,
    mask: LossMask,
) -> Result<Encoded, EncodeError<T::Error>> {
    let controls: Vec<(&'static str, u32)> = rendered
        .control_tokens
        .iter()
        .filter_map(|&name| tokenizer.control_id(name).map(|id| (name, id)))
        .collect();
    let mut encoded = Encoded {
        ids: Vec::new(),
        loss_mask: Vec::new(),
        spans: Vec::new(),
    };
    let mut previous: Option<&Segment> = None;
    for (index, segment) in rendered.segments.iter().enumerate() {
        let start = encoded.ids.len();
        match &segment.piece {
            Piece::Control(name) => {
                let id = tokenizer
                    .control_id(name)
                    .ok_or(EncodeError::ControlToken { name })?;
                encoded.ids.push(id);
            }
            Piece::Text(text) => {
                let ids = tokenizer
                    .encode_text(text)
                    .map_err(EncodeError::Tokenizer)?;
                if let Some(&(name, id)) = controls.iter().find(|(_, id)| ids.contains(id)) {
                    return Err(EncodeError::ForgedControlToken {
                        name,
                        id,
                        segment: index,
                    });
                }
                encoded.ids.extend(ids);
            }
        }
        let end = encoded.ids.len();
        encoded
            .loss_mask
            .resize(end, is_target(segment, previous, mask));
        if let Some((message, _)) = segment.message {
            if message == encoded.spans.len() {
                encoded.spans.push(start..end);
            } else if let Some(span) = encoded.spans.last_mut() {
                span.end = end;
            }
        }
        previous = Some(segment);
    }
    Ok(encoded)
}

/// Whether the tokens of a segment are targets.
fn is_target(segment: &Segment, previous: Option<&Segment>, mask: LossMask) -> bool {
    let from_assistant = |segment: &Segment| matches!(segment.message, Some((_, Role::Assistant)));
    match (segment.part, mask) {
        (Part::Content, _) | (Part::Metadata, LossMask::NextRole) => from_assistant(segment),
        // The token right after a turn of the assistant.
        (Part::Opening | Part::End, LossMask::NextRole | LossMask::ContentAndStop) => {
            previous.is_some_and(from_assistant)
        }
        _ => false,
    }
}
