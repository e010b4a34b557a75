//! Which of seven tokens each filter keeps.

use llm_blocks_listings::left::left;
use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::{Context, Dialect, SamplingError};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: kept
    let row = [0.5_f64, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02].map(f64::ln);
    let settings = [
        (Dialect::HuggingFace, Setting::TopK(3)),
        (Dialect::LlamaCpp, Setting::TopK(3)),
        (Dialect::HuggingFace, Setting::TopP(0.75)),
        (Dialect::HuggingFace, Setting::MinP(0.15)),
        (Dialect::HuggingFace, Setting::Typical(0.3)),
        (Dialect::HuggingFace, Setting::TopH(0.6)),
        (Dialect::HuggingFace, Setting::EpsilonCutoff(0.04)),
        (Dialect::HuggingFace, Setting::EtaCutoff(0.04)),
        (Dialect::LlamaCpp, Setting::TopNSigma(1.0)),
        (
            Dialect::LlamaCpp,
            Setting::Xtc {
                probability: 1.0,
                threshold: 0.15,
            },
        ),
    ];
    for (dialect, setting) in settings {
        let name = setting.name();
        let mut chain = ChainConfig::new(dialect).with(setting).build()?;
        let candidates = chain.run(&row, &Context::new(&[], &[]))?;
        let left = left(candidates)?;
        let tokens: Vec<u32> = left.iter().map(|(token, _)| *token).collect();
        println!("{:13} {name:15} {tokens:?}", dialect.to_string());
    }
    // ANCHOR_END: kept
    Ok(())
}
