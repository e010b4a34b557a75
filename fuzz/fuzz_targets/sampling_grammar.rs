//! Any pattern or schema over any tokens: a grammar in which every allowed token can be taken and every text can be finished, or a typed error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_sampling::grammar::{Grammar, JsonConfig, Vocabulary, Whitespace};
use llm_sampling::{Candidates, Context, Processor};

type Input = (String, Vec<Vec<u8>>, Vec<u32>, [u8; 3], Vec<u8>);

fuzz_target!(|input: Input| {
    let (source, mut tokens, ids, [kind, space, free_depth], choices) = input;
    tokens.truncate(200);
    if kind & 1 == 0 {
        tokens.extend((0..=255).map(|byte| vec![byte]));
    }
    let (end_ids, special_ids) = ids.split_at(ids.len() / 2);
    let Ok(vocabulary) = Vocabulary::new(&tokens, end_ids, special_ids) else {
        return;
    };
    let whitespace = match space % 3 {
        0 => Whitespace::Compact,
        1 => Whitespace::Spaced,
        _ => Whitespace::UpTo(space),
    };
    let config = JsonConfig::new(whitespace).with_free_depth(free_depth % 3);
    let grammar = if kind & 2 == 0 {
        Grammar::regex(&vocabulary, &source)
    } else {
        Grammar::json_schema(&vocabulary, &source, &config)
    };
    let Ok(grammar) = grammar else {
        return;
    };
    let mut state = grammar.start();
    let mut generated = Vec::new();
    for choice in choices.into_iter().take(64) {
        let allowed = grammar.allowed(state);
        if allowed.is_empty() {
            assert!(grammar.is_finished(state) && end_ids.is_empty());
            break;
        }
        assert!(grammar.forced(state).len() <= grammar.n_states());
        let mut candidates = Candidates::new();
        assert!(candidates.fill(&vec![0.0_f32; tokens.len()]).is_ok());
        let context = Context::new(&[], &generated);
        assert!(grammar.apply(&mut candidates, &context).is_ok());
        assert_eq!(candidates.logits().len(), allowed.len());
        let token = allowed[usize::from(choice) % allowed.len()];
        state = match grammar.advance(state, token) {
            Ok(state) => state,
            Err(error) => panic!("allowed and refused: {error}"),
        };
        generated.push(token);
        if vocabulary.is_end(token) {
            assert!(grammar.is_complete(state));
            break;
        }
        assert!(grammar.is_complete(state) || !grammar.allowed(state).is_empty());
    }
});
