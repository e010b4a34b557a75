//! An answer that a program can read: the same model with and without a JSON Schema.
//!
//! ```text
//! free:   Sure! It is 21 degrees and mostly sunny.
//! schema: {"degrees": 21, "sky": "sunny"}
//!   10 tokens, of which 8 were the only ones allowed
//! regex:  It is 21 degrees and sunny.
//! ```
//!
//! The model has its habits: after each token it likes some tokens more than others. It wants to be polite, and to say "mostly". What the grammar
//! does not allow it cannot say; among what is allowed it still chooses by its likings.

use llm_sampling::chain::Chain;
use llm_sampling::grammar::{Grammar, JsonConfig, Vocabulary, Whitespace};
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::{Context, SamplingError};
use ndarray::Array2;

/// Some pieces cross the border between a name and its value, as in real vocabularies.
const PIECES: [&str; 20] = [
    "Sure! ", "It", " is ", "21", " degrees", " and ", "mostly ", "sunny", ".", "{\"", "degrees",
    "\": ", ", \"", "sky", "\": \"", "rainy", "\"}", "2", "1", "<eos>",
];
const END: u32 = 19;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "degrees": {"type": "integer", "minimum": -60, "maximum": 60},
        "sky": {"enum": ["sunny", "rainy"]}
    },
    "required": ["degrees", "sky"]
}"#;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    print!("{}", report()?);
    Ok(())
}

/// Three answers.
pub(crate) fn report() -> Result<String, Error> {
    let vocabulary = Vocabulary::new(&PIECES, &[END], &[])?;
    let config = JsonConfig::new(Whitespace::Spaced);
    let schema = Grammar::json_schema(&vocabulary, SCHEMA, &config)?;
    let regex = Grammar::regex(
        &vocabulary,
        "It is -?[0-9]{1,2} degrees and (sunny|rainy)\\.",
    )?;

    let free = answer(None)?;
    let json = answer(Some(&schema))?;
    let sentence = answer(Some(&regex))?;
    let mut state = schema.start();
    let mut n_certain = 0;
    for &token in &json {
        n_certain += usize::from(schema.allowed(state).len() == 1);
        state = schema.advance(state, token)?;
    }
    Ok(format!(
        "free:   {}\nschema: {}\n  {} tokens, of which {n_certain} were the only ones allowed\nregex:  {}\n",
        text(&free),
        text(&json),
        json.len(),
        text(&sentence),
    ))
}

/// The likeliest tokens up to an end token, by greedy decoding.
fn answer(grammar: Option<&Grammar>) -> Result<Vec<u32>, SamplingError> {
    let mut chain = Chain::new();
    if let Some(grammar) = grammar {
        chain.push(Box::new(grammar.clone()));
    }
    let mut chain = chain.with(TopK::new(1, Ties::Exact, 1)?);
    let mut tokens = Vec::new();
    while tokens.last() != Some(&END) {
        let draws = chain.sample(&model(&tokens), &[Context::new(&[], &tokens)])?;
        tokens.push(draws[0].token);
    }
    Ok(tokens)
}

fn text(tokens: &[u32]) -> String {
    let pieces = tokens.iter().filter(|token| **token != END);
    pieces.map(|token| PIECES[*token as usize]).collect()
}

/// Logits after these tokens: the habits of the last one, and a little of everything.
fn model(tokens: &[u32]) -> Array2<f32> {
    let habits: &[&str] = match tokens.last().map(|token| PIECES[*token as usize]) {
        None => &["Sure! ", "It"],
        Some("Sure! ") => &["It"],
        Some("It") => &[" is "],
        Some(" is ") => &["21", "2"],
        Some("21") => &[" degrees", ", \""],
        Some(" degrees") => &[" and "],
        Some(" and ") => &["mostly ", "sunny"],
        Some("mostly ") => &["sunny"],
        Some("sunny") => &[".", "\"}"],
        Some("\": ") => &["21"],
        Some("\": \"") => &["mostly ", "sunny"],
        Some(_) => &["<eos>"],
    };
    Array2::from_shape_fn([1, PIECES.len()], |(_, token)| {
        let place = habits.iter().position(|habit| *habit == PIECES[token]);
        place.map_or(0.0, |place| 5.0 - place as f32)
    })
}
