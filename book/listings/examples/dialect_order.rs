//! Top-p 0.8 and a temperature of 0.5 on the row 3, 2, 1, in the order of four libraries.

use llm_blocks_listings::left::written;
use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::{Context, Dialect, SamplingError};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: order
    for dialect in [
        Dialect::HuggingFace,
        Dialect::Vllm,
        Dialect::OpenAi,
        Dialect::LlamaCpp,
    ] {
        let mut chain = ChainConfig::new(dialect)
            .with(Setting::TopP(0.8))
            .with(Setting::Temperature(0.5))
            .build()?;
        let candidates = chain.run(&[3.0, 2.0, 1.0], &Context::new(&[], &[]))?;
        println!("{:13} {}", dialect.to_string(), written(candidates)?);
    }
    // ANCHOR_END: order
    Ok(())
}
