//! What four libraries have in their chains, and what they do if nothing is said.

use llm_sampling::Dialect;
use llm_sampling::chain::{ChainConfig, Setting, order};

fn main() {
    // ANCHOR: dialects
    for dialect in [
        Dialect::HuggingFace,
        Dialect::LlamaCpp,
        Dialect::Vllm,
        Dialect::OpenAi,
    ] {
        let defaults = ChainConfig::defaults(dialect).settings;
        let named = ["temperature", "top_k", "top_p", "min_p"];
        let order: Vec<&str> = order(dialect).to_vec();
        let order: Vec<&str> = order.into_iter().filter(|n| named.contains(n)).collect();
        println!("{dialect}: {}; by default {defaults:?}", order.join(", "));
        let typical = ChainConfig::new(dialect).with(Setting::Typical(0.9));
        if let Err(error) = typical.build::<f32>() {
            println!("  {error}");
        }
    }
    // ANCHOR_END: dialects
}
