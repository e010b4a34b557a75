//! A draft without a model: what came after the same words before.

use llm_sampling::SamplingError;
use llm_sampling::search::prompt_lookup::{MatchOrder, PromptLookupConfig, candidates};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: lookup
    let words = "the old cat sat and the old cat slept but the old cat".split(' ');
    let words: Vec<&str> = words.collect();
    let id = |word: &str| words.iter().position(|w| *w == word).unwrap_or(0) as u32;
    let tokens: Vec<u32> = words.iter().map(|word| id(word)).collect();
    for order in [MatchOrder::Oldest, MatchOrder::Newest] {
        let config = PromptLookupConfig::new(3, 3)?.with_order(order);
        let draft = candidates(&tokens, &config)?.iter();
        let draft: Vec<&str> = draft.map(|&id| words[id as usize]).collect();
        println!("{order:?}: {}", draft.join(" "));
    }
    // ANCHOR_END: lookup
    Ok(())
}
