//! The options that say how tokens are chosen.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use llm_blocks::chat_format::chatglm3;
use llm_blocks::sampling::chain::{ChainConfig, Setting};
use llm_blocks::sampling::grammar::{Grammar, GrammarError, JsonConfig, Vocabulary, Whitespace};
use llm_blocks::sampling::{
    Candidates, Context, Dialect, Processor, SamplingConfig, SamplingError,
};
use llm_blocks::tiny_model::{GenerateOptions, Tokenizer};

use crate::failure::Failure;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// What follows a text.
    Text,
    /// A reply: a line of metadata, which is empty here, and the content.
    Reply,
}

/// A grammar for the content of a reply.
struct AfterFirstLine {
    end_of_line: Vec<u32>,
    grammar: Grammar,
}

impl Processor<f32> for AfterFirstLine {
    fn apply(
        &self,
        candidates: &mut Candidates<f32>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        let Some((_, content)) = context.generated.split_first() else {
            candidates.make_dense();
            for (token, x) in (0..).zip(candidates.logits_mut()) {
                if !self.end_of_line.contains(&token) {
                    *x = f32::NEG_INFINITY;
                }
            }
            return Ok(());
        };
        self.grammar
            .apply(candidates, &Context::new(context.prompt, content))
    }
}

type Boxed = Box<dyn Processor<f32> + Send + Sync>;

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Draw tokens, the more evenly the higher; without it and the filters below the likeliest is taken
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Draw among the K likeliest tokens, 0 for all
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Draw among the likeliest tokens that together have probability P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Draw among tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Draw among the most typical tokens that together have probability P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f64>,
    /// Make tokens less likely that were there before, by this factor
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    repetition_penalty: Option<f64>,
    /// Take this off a logit if its token was made before
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f64>,
    /// Take this off a logit for each time its token was made before
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f64>,
    /// Never make the same N tokens in a row twice
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    no_repeat_ngram: Option<usize>,
    /// Never make this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    forbid: Vec<String>,
    /// Make a text that matches this regular expression as a whole
    #[arg(long = "match", value_name = "REGEX", conflicts_with = "json_schema")]
    pattern: Option<String>,
    /// Make a JSON text that is valid for the schema in this file
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// Whose order and rules hold
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    dialect: DialectArg,
    /// Stop after N tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_new_tokens: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum DialectArg {
    /// Temperature before the filters, ties kept
    #[default]
    HuggingFace,
    /// Temperature after the filters, penalties on the last 64 tokens
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// As Hugging Face, but presence and frequency penalties too
    Vllm,
    /// As vLLM, with the limits of OpenAI's interface
    #[value(name = "openai")]
    OpenAi,
}

impl From<DialectArg> for Dialect {
    fn from(dialect: DialectArg) -> Self {
        match dialect {
            DialectArg::HuggingFace => Self::HuggingFace,
            DialectArg::LlamaCpp => Self::LlamaCpp,
            DialectArg::Vllm => Self::Vllm,
            DialectArg::OpenAi => Self::OpenAi,
        }
    }
}

impl SamplingArgs {
    /// The checked options of a generation.
    pub(crate) fn options(&self, seed: u64, form: Form) -> Result<GenerateOptions, Failure> {
        let options = self.chosen(form)?.with_seed(seed);
        match self.max_new_tokens {
            None => Ok(options),
            Some(0) => Err(Failure::usage("--max-new-tokens must be at least 1, got 0")),
            Some(n) => Ok(options.with_max_new_tokens(n)),
        }
    }

    fn chosen(&self, form: Form) -> Result<GenerateOptions, Failure> {
        let settings = self.settings()?;
        let grammar = match (self.grammar()?, form) {
            (None, _) => None,
            (Some(grammar), Form::Text) => Some(Box::new(grammar) as Boxed),
            (Some(grammar), Form::Reply) => Some(Box::new(AfterFirstLine {
                end_of_line: Tokenizer::embedded().encode("\n")?,
                grammar,
            }) as Boxed),
        };
        let dialect = self.dialect.into();
        let is_greedy = self.temperature.is_none()
            && self.top_k.is_none()
            && self.top_p.is_none()
            && self.min_p.is_none()
            && self.typical_p.is_none();
        if settings.is_empty() && grammar.is_none() {
            return Ok(GenerateOptions::new(if is_greedy {
                SamplingConfig::greedy()
            } else {
                let temperature = self.temperature.unwrap_or(1.0);
                SamplingConfig::sample(dialect, temperature, self.top_k, self.top_p)?
            }));
        }
        let mut config = ChainConfig::new(dialect);
        config.settings = settings;
        let greedy = match dialect {
            Dialect::HuggingFace => Setting::Greedy,
            _ => Setting::Temperature(0.0),
        };
        let common = [
            is_greedy.then_some(greedy),
            self.temperature.map(Setting::Temperature),
            self.top_k.map(Setting::TopK),
            self.top_p.map(Setting::TopP),
        ];
        config.settings.extend(common.into_iter().flatten());
        let grammar = grammar.map(|grammar| ("user", grammar));
        Ok(GenerateOptions::new(
            config.build_with(grammar.into_iter().collect())?,
        ))
    }

    /// The texts that are allowed, if not all are.
    fn grammar(&self) -> Result<Option<Grammar>, Failure> {
        let schema = match (&self.pattern, &self.json_schema) {
            (None, None) => return Ok(None),
            (_, None) => None,
            (_, Some(path)) => Some(std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("cannot read {}: {error}", path.display()))
            })?),
        };
        let tokenizer = Tokenizer::embedded();
        let special: Vec<u32> = (0_u32..)
            .zip(tokenizer.tokens())
            .filter(|(_, token)| token.chars().count() != 1) // text is made of characters
            .map(|(id, _)| id)
            .collect();
        let ends = chatglm3::stop_ids(tokenizer);
        let made =
            Vocabulary::new(tokenizer.tokens(), &ends, &special).and_then(|vocabulary| {
                match (&self.pattern, &schema) {
                    (_, Some(schema)) => {
                        let config = JsonConfig::new(Whitespace::Spaced);
                        Grammar::json_schema(&vocabulary, schema, &config)
                    }
                    (pattern, None) => {
                        Grammar::regex(&vocabulary, pattern.as_deref().unwrap_or_default())
                    }
                }
            });
        made.map(Some).map_err(|error: GrammarError| {
            let name = if schema.is_some() {
                "--json-schema"
            } else {
                "--match"
            };
            Failure::usage(error.to_string()).about(name)
        })
    }

    /// What a [`SamplingConfig`] does not have.
    fn settings(&self) -> Result<Vec<Setting>, Failure> {
        let mut settings: Vec<Setting> = [
            self.min_p.map(Setting::MinP),
            self.typical_p.map(Setting::Typical),
            self.repetition_penalty.map(Setting::RepetitionPenalty),
            self.presence_penalty.map(Setting::PresencePenalty),
            self.frequency_penalty.map(Setting::FrequencyPenalty),
            self.no_repeat_ngram.map(Setting::NoRepeatNgram),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut words = Vec::new();
        for text in &self.forbid {
            if text.is_empty() {
                return Err(Failure::usage("--forbid needs a text, got an empty one"));
            }
            words.push(Tokenizer::embedded().encode(text)?);
        }
        if !words.is_empty() {
            settings.push(Setting::BadWords(words));
        }
        Ok(settings)
    }
}
