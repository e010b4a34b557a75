//! ChatGLM3 without segments: one string, and the mask by shifting.

use crate::{Ending, Message, Role};

/// The whole conversation as one string, role tokens by their names.
///
/// What a prompt looks like when it is printed. It must not be tokenized as it stands:
/// text of a user that looks like a control token would become one.
#[must_use]
pub fn render(messages: &[Message], ending: Ending) -> String {
    let mut text = "[gMASK]sop".to_owned();
    for message in messages {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Observation => "observation",
        };
        text += &format!("<|{role}|>{}\n{}", message.metadata, message.content);
    }
    text += match ending {
        Ending::Open => "",
        Ending::GenerationPrompt => "<|assistant|>",
        Ending::EndOfText => "</s>",
    };
    text
}

/// Which tokens are learned, as ChatGLM3's fine-tuning code finds them.
///
/// It marks all tokens of the assistant's messages, role token included, puts the end of
/// text behind them, and then moves the marks one place to the right. So the role token
/// falls out, and the token after each answer comes in.
///
/// # Shapes
///
/// - `messages`: role and number of tokens of each, its role token included
/// - returns: `[2 + tokens + 1]`, for `[gMASK]`, `sop`, the messages and `</s>`
///
/// Source: `process_batch` in `finetune_demo/finetune_hf.py` of the ChatGLM3 repository.
#[must_use]
pub fn next_role_mask(messages: &[(Role, usize)]) -> Vec<bool> {
    let mut marks = vec![false, false];
    for &(role, n_tokens) in messages {
        marks.extend(vec![role == Role::Assistant; n_tokens]);
    }
    marks.insert(0, false);
    marks
}
