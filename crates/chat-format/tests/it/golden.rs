//! Known ids.

use llm_chat_format::{Ending, LossMask, Message, Tokenizer, chatglm3, encode};

/// Gives the ids of ChatGLM3-6B's tokenizer for the few texts that these tests use.
struct ChatGlm3;

impl Tokenizer for ChatGlm3 {
    type Error = String;

    fn encode_text(&self, text: &str) -> Result<Vec<u32>, String> {
        match text {
            // SentencePiece's leading space (30910), then the line break.
            "\n" => Ok(vec![30910, 13]),
            // ChatGLM2-6B and ChatGLM3-6B share their text vocabulary; from a printed run of the former,
            // whose output begins with these two tokens for 你好.
            "你好" => Ok(vec![36474, 54591]),
            other => Err(other.to_owned()),
        }
    }

    fn control_id(&self, name: &str) -> Option<u32> {
        // tokenizer_config and tokenization_chatglm.py of THUDM/chatglm3-6b.
        let ids = [
            ("</s>", 2),
            ("[gMASK]", 64790),
            ("sop", 64792),
            ("<|system|>", 64794),
            ("<|user|>", 64795),
            ("<|assistant|>", 64796),
            ("<|observation|>", 64797),
        ];
        ids.into_iter()
            .find(|(token, _)| *token == name)
            .map(|(_, id)| id)
    }
}

/// What `build_chat_input("你好")` of ChatGLM3-6B gives.
#[test]
fn a_prompt_has_the_ids_of_chatglm3() {
    let rendered = chatglm3::render(&[Message::user("你好")], Ending::GenerationPrompt).unwrap();
    let encoded = encode(&rendered, &ChatGlm3, LossMask::NextRole).unwrap();
    assert_eq!(
        encoded.ids,
        [64790, 64792, 64795, 30910, 13, 36474, 54591, 64796]
    );
    assert_eq!(encoded.loss_mask, [false; 8]);
    assert_eq!(encoded.spans, vec![2..7]);
}

/// By hand after ChatGLM3's fine-tuning code: each message is false (user) or true (assistant) as a
/// whole, an end of text is appended, and the mask moves one to the right.
///
/// ```text
/// ids    [gMASK] sop <|user|> · ⏎ 你好 <|assistant|> · ⏎ 你好 </s>
/// before    0     0     0     0 0 0 0      1        1 1 1 1   -
/// moved     0     0     0     0 0 0 0      0        1 1 1 1   1
/// ```
#[test]
fn a_training_example_has_the_labels_of_chatglm3() {
    let messages = [Message::user("你好"), Message::assistant("你好")];
    let rendered = chatglm3::render(&messages, Ending::EndOfText).unwrap();
    let encoded = encode(&rendered, &ChatGlm3, LossMask::NextRole).unwrap();
    let ids = [
        64790, 64792, 64795, 30910, 13, 36474, 54591, 64796, 30910, 13, 36474, 54591, 2,
    ];
    assert_eq!(encoded.ids, ids);
    let ignored = -100;
    let mut labels = vec![ignored; 8];
    labels.extend([30910, 13, 36474, 54591, 2]);
    assert_eq!(encoded.labels(ignored), labels);
}

#[test]
fn the_text_form_is_the_published_one() {
    let messages = [
        Message::system("You may use tools."),
        Message::user("weather?"),
        Message::assistant("```python\ntool_call(city='Paris')\n```").with_metadata("get_weather"),
        Message::observation("sunny"),
    ];
    let rendered = chatglm3::render(&messages, Ending::GenerationPrompt).unwrap();
    assert_eq!(
        rendered.to_string(),
        "[gMASK]sop<|system|>\nYou may use tools.<|user|>\nweather?<|assistant|>get_weather\n\
         ```python\ntool_call(city='Paris')\n```<|observation|>\nsunny<|assistant|>"
    );
}

#[test]
fn generation_stops_at_the_end_and_at_turns_of_others() {
    assert_eq!(chatglm3::stop_ids(&ChatGlm3), [2, 64795, 64797]);
}
