//! Tokenizers that stand in for real ones.

use std::convert::Infallible;

use llm_chat_format::{Tokenizer, chatglm3};

/// One token for each character, control tokens after all of them.
pub(crate) struct Chars;

/// Id of the first control token: above every character.
pub(crate) const CONTROL: u32 = 0x11_0000;

impl Tokenizer for Chars {
    type Error = Infallible;

    fn encode_text(&self, text: &str) -> Result<Vec<u32>, Infallible> {
        Ok(text.chars().map(u32::from).collect())
    }

    fn control_id(&self, name: &str) -> Option<u32> {
        chatglm3::CONTROL_TOKENS
            .iter()
            .position(|token| *token == name)
            .map(|i| CONTROL + i as u32)
    }
}

/// As [`Chars`], but it finds the names of control tokens in text, as many tokenizers do.
pub(crate) struct Forger;

impl Tokenizer for Forger {
    type Error = Infallible;

    fn encode_text(&self, text: &str) -> Result<Vec<u32>, Infallible> {
        let mut ids = vec![];
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let name = chatglm3::CONTROL_TOKENS
                .iter()
                .find(|name| rest.starts_with(**name));
            ids.push(
                name.and_then(|name| self.control_id(name))
                    .unwrap_or(u32::from(c)),
            );
            rest = &rest[name.map_or(c.len_utf8(), |name| name.len())..];
        }
        Ok(ids)
    }

    fn control_id(&self, name: &str) -> Option<u32> {
        Chars.control_id(name)
    }
}

/// A tokenizer with two faults: it has no `<|observation|>` and refuses exclamation marks.
#[derive(Debug)]
pub(crate) struct Broken;

/// Why [`Broken`] refuses a text.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no exclamation marks, please")]
pub(crate) struct Refused;

impl Tokenizer for Broken {
    type Error = Refused;

    fn encode_text(&self, text: &str) -> Result<Vec<u32>, Refused> {
        if text.contains('!') {
            Err(Refused)
        } else {
            Ok(vec![7; text.len()])
        }
    }

    fn control_id(&self, name: &str) -> Option<u32> {
        Chars.control_id(name).filter(|_| name != "<|observation|>")
    }
}
