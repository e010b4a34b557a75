//! Grammars in a chain, in the loop and in searches, with logits of any kind over a vocabulary of bytes.

use llm_numerics::philox::Philox4x32;
use llm_sampling::generate::StopReason;
use llm_sampling::grammar::{Grammar, JsonConfig, Vocabulary, Whitespace};
use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use llm_sampling::search::beam_sample::BeamSample;
use llm_sampling::search::diverse::DiverseBeamSearch;
use llm_sampling::temperature::Temperature;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::{Candidates, Chain, Context, Processor, RowRandom, SamplingError};
use ndarray::Array2;
use serde_json::Value;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "été"]}, "maxItems": 3},
        "code": {"type": "string", "pattern": "^[A-Z]{2}\\d{2,4}$"},
        "ok": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}
    },
    "required": ["name", "age", "ok"]
}"#;

/// All bytes, pieces that cross the borders of values, and marks that are no text.
fn tokens() -> Vec<Vec<u8>> {
    let pieces = [
        "{\"",
        "\":",
        "\": \"",
        "\",\"",
        "\"},",
        "},",
        "\"}",
        "name",
        "name\":\"",
        "age\":",
        "\":1",
        "tags",
        "[\"",
        "\"]",
        "\",",
        "red",
        "green",
        "ét",
        "é",
        "true",
        "false",
        "null",
        "null}",
        "tr",
        "ue}",
        "100",
        "13",
        "\\n",
        "\\u0",
        "00",
        "AB",
        "A1",
        "語",
        "🙂",
        "日本",
        ",\"ok\":",
        "ok\":t",
        "0,\"",
        "\":[",
        "\":[]",
        "e\"",
        "\\\"",
        "\\\\",
        "éé",
    ];
    let bytes = (0..=255).map(|byte| vec![byte]);
    bytes
        .chain(pieces.map(|piece| piece.as_bytes().to_vec()))
        .collect()
}

const END: u32 = 300;

/// 256 bytes and 44 pieces, and an end token.
fn vocabulary() -> Vocabulary {
    let mut tokens = tokens();
    assert_eq!(tokens.len(), END as usize);
    tokens.push(b"</s>".to_vec());
    Vocabulary::new(&tokens, &[END], &[]).unwrap()
}

fn grammar() -> Grammar {
    Grammar::json_schema(&vocabulary(), SCHEMA, &JsonConfig::new(Whitespace::Compact)).unwrap()
}

fn text(ids: &[u32]) -> String {
    let tokens = tokens();
    let ids = ids.iter().filter(|id| **id != END);
    let bytes: Vec<u8> = ids.flat_map(|id| tokens[*id as usize].clone()).collect();
    String::from_utf8(bytes).unwrap()
}

/// The schema by hand.
fn validate(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap();
    let object = value.as_object().unwrap();
    let known = ["name", "age", "tags", "code", "ok"];
    assert!(
        object.keys().all(|key| known.contains(&key.as_str())),
        "{text}"
    );
    let length = value["name"].as_str().unwrap().chars().count();
    assert!((1..=8).contains(&length), "{text}");
    assert!(value["age"].as_u64().unwrap() <= 130, "{text}");
    assert!(value["ok"].is_boolean() || value["ok"].is_null(), "{text}");
    assert!(object.contains_key("ok"), "{text}");
    if let Some(tags) = object.get("tags") {
        let tags = tags.as_array().unwrap();
        let is_tag = |tag: &Value| ["red", "green", "été"].contains(&tag.as_str().unwrap());
        assert!(tags.len() <= 3 && tags.iter().all(is_tag), "{text}");
    }
    if let Some(code) = object.get("code") {
        let code = code.as_str().unwrap().as_bytes();
        let (letters, digits) = code.split_at(2);
        assert!(letters.iter().all(u8::is_ascii_uppercase), "{text}");
        assert!((2..=4).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit));
    }
}

/// Logits of a row at a step that mean nothing.
fn logit(seed: u64, row: usize, step: usize, token: usize) -> f32 {
    let place = (row * 1000 + step) * 512 + token;
    8.0 * Philox4x32::new(seed).uniform_f64(1, place as u64) as f32
}

#[test]
fn whatever_the_model_says_a_chain_writes_a_valid_answer() {
    let grammar = grammar();
    let mut tags = 0;
    for seed in 0..8 {
        // Greedy, sampled, and sampled from few.
        let mut chains = [
            Chain::new()
                .with(grammar.clone())
                .with(TopK::new(1, Ties::Exact, 1).unwrap()),
            Chain::new().with(grammar.clone()),
            Chain::new()
                .with(Temperature::new(0.5).unwrap())
                .with(grammar.clone())
                .with(TopK::new(5, Ties::Kept, 1).unwrap()),
        ];
        for chain in &mut chains {
            let mut rows: [Vec<u32>; 3] = Default::default();
            for step in 0..200 {
                let logits =
                    Array2::from_shape_fn([3, 305], |(row, token)| logit(seed, row, step, token));
                let contexts = [0, 1, 2].map(|row| {
                    let random = RowRandom::new(seed, row as u64, step as u64);
                    Context::new(&[7], &rows[row]).with_random(random)
                });
                let draws = chain.sample(&logits, &contexts).unwrap();
                for (row, draw) in rows.iter_mut().zip(draws) {
                    row.push(draw.token); // rows that have ended are padded with the end token
                }
                if rows.iter().all(|row| row.last() == Some(&END)) {
                    break;
                }
            }
            for row in &rows {
                assert_eq!(row.last(), Some(&END));
                let text = text(row);
                validate(&text);
                tags += usize::from(text.contains("tags"));
            }
        }
    }
    assert!((1..72).contains(&tags), "{tags}"); // what may be left out sometimes is, and sometimes not
}

/// Steps until no beam goes on.
macro_rules! run {
    ($search:expr, $n_rows:expr, |$search_name:ident, $logits:ident| $step:expr) => {{
        let mut $search_name = $search;
        let mut step = 0;
        while !$search_name.is_done() {
            let $logits =
                Array2::from_shape_fn([$n_rows, 305], |(row, token)| logit(5, row, step, token));
            $step.unwrap();
            step += 1;
        }
        $search_name.finish()
    }};
}

#[test]
fn every_hypothesis_of_a_search_by_beams_follows_the_grammar() {
    let config = BeamConfig::transformers(4, 120)
        .with_n_return(4)
        .with_stop_ids(vec![END]);
    let grammar = grammar();
    let prompts = [[9], [8]];
    let beam = run!(
        BeamSearch::new(&prompts, &config).unwrap(),
        8,
        |s, logits| s.step(&logits, &grammar)
    );
    let diverse = run!(
        DiverseBeamSearch::new(&prompts, &config, 2, 0.5).unwrap(),
        8,
        |s, logits| s.step(&logits, &grammar)
    );
    let sampled = BeamSample::new(&prompts, &config, 3, &[0, 1]).unwrap();
    let sampled = run!(sampled, 8, |s, logits| s.step(&logits, &grammar));
    for found in [beam, diverse, sampled] {
        for hypotheses in found {
            assert!(!hypotheses.is_empty());
            for hypothesis in hypotheses {
                assert_eq!(hypothesis.stop, StopReason::StopToken(END));
                validate(&text(&hypothesis.tokens));
            }
        }
    }
}

#[test]
fn a_beam_that_cannot_go_on_ends_and_is_no_error() {
    // Of the two beams one ends after "a", the other goes on.
    let tokens = ["a", "b", "c", "</s>"];
    let vocabulary = Vocabulary::new(&tokens, &[3], &[]).unwrap();
    let grammar = Grammar::regex(&vocabulary, "a|bcc").unwrap();
    let config = BeamConfig::textbook(2, 10)
        .with_n_return(2)
        .with_stop_ids(vec![3]);
    let mut search = BeamSearch::new(&[[0]], &config).unwrap();
    while !search.is_done() {
        search
            .step(&Array2::<f64>::zeros([2, 4]), &grammar)
            .unwrap();
    }
    let found: Vec<Vec<u32>> = search.finish()[0]
        .iter()
        .map(|h| h.tokens.clone())
        .collect();
    assert_eq!(found, [vec![0, 3], vec![1, 2, 2, 3]]);
}

#[test]
fn each_row_can_have_a_grammar_of_its_own() {
    let vocabulary = Vocabulary::new(&["a", "b", "</s>"], &[2], &[]).unwrap();
    let grammars = ["a", "b", "ab?"].map(|pattern| Grammar::regex(&vocabulary, pattern).unwrap());
    let by_row = move |candidates: &mut Candidates<f32>, context: &Context<'_>| {
        grammars[context.row].apply(candidates, context)
    };
    let mut chain = Chain::new().with(by_row);
    let logits = Array2::zeros([3, 3]);
    let start = [Context::new(&[], &[]); 3];
    let tokens =
        |chain: &mut Chain<f32>, contexts: &[Context<'_>]| -> Result<Vec<u32>, SamplingError> {
            let draws = chain.sample(&logits, contexts)?;
            Ok(draws.iter().map(|draw| draw.token).collect())
        };
    assert_eq!(tokens(&mut chain, &start).unwrap(), [0, 1, 0]);
    let after_a = [Context::new(&[], &[0]); 3];
    let refused = SamplingError::GrammarToken(1, 0);
    assert_eq!(tokens(&mut chain, &after_a).unwrap_err(), refused);
}

#[test]
fn a_filter_before_the_grammar_may_leave_nothing() {
    let mut chain = Chain::new()
        .with(TopK::new(1, Ties::Exact, 1).unwrap())
        .with(grammar());
    let mut logits = Array2::from_elem([1, 301], 0.0_f32);
    logits[[0, 40]] = 1.0; // "(" is no beginning of an object
    let error = chain
        .sample(&logits, &[Context::new(&[], &[])])
        .unwrap_err();
    assert_eq!(error, SamplingError::MaskedRow { row: 0 });
}
