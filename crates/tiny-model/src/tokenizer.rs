//! The tokenizer: one token for each character.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::TinyModelError;

/// The control tokens, in the order of their ids from 0: padding, then those of ChatGLM3's format.
pub const CONTROL_TOKENS: [&str; 8] = [
    "[PAD]",
    "[gMASK]",
    "sop",
    "</s>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
];

/// The characters beyond line break and ASCII, by code point. The ids of a trained model depend
/// on this list: a change of it needs a new training.
const CHARACTERS: &str = "\
    ×÷、。一万上下不与世两个中为主举么乐乘习书了事于云京亮人什今介从代以们会位住何作你信做光兔共关\
    兴其养再写农减几出分列别力加动助努勇北十千单去友发古句只叫吃各合同名向吗吧呀和哪唐唱啼善喜器回团\
    园国在场坚型城声多大天太头好子字学它守实客家对小少尝山岁岸工己已师希帝帮常干开彩影很律心念怎总您\
    情想感成我手把拔拜推故敢数文日早明星是晚智最月有朗望朝期本机李条来极样模欢歌步段比民气求江点热爱\
    爷物狗猫猿现用电界白的真知码离积章笑笼等答简算篇红绍结给翻老背能脚腿自舟良色若英荐蓝见观解言计讲\
    设词译试诗诚话语说诵请谁谢起足轻辞过还这进远那部都里重量问间阳院除陵雉雨非面韧题饭首高鸡！，：？\
";

static EMBEDDED: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::new);

/// What [`Tokenizer::decode`] does with control tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlTokens {
    /// Leaves them out.
    Skip,
    /// Writes their names, as `<|assistant|>`.
    Name,
}

/// Text to token ids and back, one token for each character.
///
/// The vocabulary is fixed: [`CONTROL_TOKENS`], line break, printable ASCII, and the Chinese
/// characters and marks that the training data uses. Text never becomes a control token:
/// `<|assistant|>` in a text is thirteen characters, so thirteen tokens.
///
/// ```
/// use llm_tiny_model::tokenizer::{ControlTokens, Tokenizer};
///
/// let tokenizer = Tokenizer::embedded();
/// let ids = tokenizer.encode("鸡有20只")?;
/// assert_eq!(ids.len(), 5);
/// assert_eq!(tokenizer.decode(&ids, ControlTokens::Skip)?, "鸡有20只");
/// assert_eq!(tokenizer.encode("<|assistant|>")?.len(), 13);
/// # Ok::<(), llm_tiny_model::TinyModelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer {
    tokens: Vec<String>,
    ids: HashMap<char, u32>,
}

impl Tokenizer {
    /// The tokenizer of the embedded model.
    #[must_use]
    pub fn embedded() -> &'static Self {
        &EMBEDDED
    }

    fn new() -> Self {
        let mut tokens: Vec<String> = CONTROL_TOKENS.map(str::to_owned).into();
        let mut ids = HashMap::new();
        for c in ['\n']
            .into_iter()
            .chain(' '..='~')
            .chain(CHARACTERS.chars())
        {
            ids.insert(c, tokens.len() as u32);
            tokens.push(c.to_string());
        }
        Self { tokens, ids }
    }

    /// The ids of a text, one for each character.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::UnknownCharacters`] with all characters that are not in the vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TinyModelError> {
        let mut ids = Vec::with_capacity(text.len());
        let mut characters = Vec::new();
        for c in text.chars() {
            match self.ids.get(&c) {
                Some(&id) => ids.push(id),
                None if characters.contains(&c) => {}
                None => characters.push(c),
            }
        }
        if characters.is_empty() {
            Ok(ids)
        } else {
            Err(TinyModelError::UnknownCharacters { characters })
        }
    }

    /// The text of the ids.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::TokenId`] if an id is not below [`vocab`](Self::vocab).
    pub fn decode(&self, ids: &[u32], control: ControlTokens) -> Result<String, TinyModelError> {
        let mut text = String::with_capacity(ids.len());
        for &id in ids {
            let token = self
                .tokens
                .get(id as usize)
                .ok_or(TinyModelError::TokenId {
                    id,
                    vocab: self.tokens.len(),
                })?;
            if control == ControlTokens::Name || !self.is_control(id) {
                text.push_str(token);
            }
        }
        Ok(text)
    }

    /// The id of the control token of this name.
    #[must_use]
    pub fn control_id(&self, name: &str) -> Option<u32> {
        CONTROL_TOKENS
            .iter()
            .position(|&token| token == name)
            .map(|id| id as u32)
    }

    /// Whether the id is that of a control token.
    #[must_use]
    pub const fn is_control(&self, id: u32) -> bool {
        (id as usize) < CONTROL_TOKENS.len()
    }

    /// How many tokens there are.
    #[must_use]
    #[doc(alias = "vocab_size")]
    pub const fn vocab(&self) -> usize {
        self.tokens.len()
    }

    /// All tokens, in the order of their ids.
    #[must_use]
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The same tokenizer in the format of Hugging Face's `tokenizers` (a `tokenizer.json`).
    ///
    /// There the control tokens are added special tokens, which that library finds in *any* text;
    /// [`encode`](Self::encode) never does. Text without their names gives the same ids. `sop` is
    /// found only where it stands as a word of its own. Characters that are not in the vocabulary
    /// are an error there too.
    #[must_use]
    pub fn tokenizer_json(&self) -> String {
        let added: Vec<Value> = CONTROL_TOKENS
            .iter()
            .enumerate()
            .map(|(id, &content)| {
                json!({
                    "id": id,
                    "content": content,
                    "single_word": content == "sop",
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": true,
                })
            })
            .collect();
        let vocab: serde_json::Map<String, Value> = self
            .tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.clone(), json!(id)))
            .collect();
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": { "Regex": "[\\s\\S]" },
                "behavior": "Isolated",
                "invert": false,
            },
            "post_processor": null,
            "decoder": { "type": "Fuse" },
            // The unknown token is not in the vocabulary, so an unknown character is an error.
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]" },
        });
        format!("{file:#}\n")
    }
}

impl llm_chat_format::Tokenizer for Tokenizer {
    type Error = TinyModelError;

    fn encode_text(&self, text: &str) -> Result<Vec<u32>, TinyModelError> {
        self.encode(text)
    }

    fn control_id(&self, name: &str) -> Option<u32> {
        Self::control_id(self, name)
    }
}
