//! Text from the bytes of tokens, without half characters, up to a stop string.

mod stop_strings;

pub use stop_strings::{StopStreamer, StopStrings, StopText};

/// Collects the bytes of tokens and hands out whole characters.
///
/// A token of a byte-level vocabulary may end in the middle of a character; printing it
/// at once would show replacement characters. Here the first bytes wait for the rest.
///
/// # Example
///
/// ```
/// use llm_sampling::stream::TextStreamer;
///
/// let mut streamer = TextStreamer::new();
/// let bytes = "né".as_bytes();
/// assert_eq!(streamer.push(&bytes[..2]), "n"); // half of the é waits
/// assert_eq!(streamer.push(&bytes[2..]), "é");
/// assert_eq!(streamer.finish(), "");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextStreamer {
    pending: Vec<u8>, // the start of one character: at most 3 bytes
}

impl TextStreamer {
    /// A streamer with nothing pending.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pending: Vec::new(),
        }
    }

    /// Takes the bytes of a token and returns the text that they complete, perhaps none.
    ///
    /// Bytes that no continuation can make valid become U+FFFD, as in
    /// [`String::from_utf8_lossy`].
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match core::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(bad) = error.error_len() else {
                        break; // incomplete: wait
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }

    /// Ends the text: what still waits becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let pending = core::mem::take(&mut self.pending);
        String::from_utf8_lossy(&pending).into_owned()
    }
}
