//! One search under several length rules.

use llm_blocks_listings::cat::{STOP, model, text, unchanged};
use llm_sampling::SamplingError;
use llm_sampling::search::beam::{BeamConfig, BeamSearch, LengthRule};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: lengths
    let rules = [
        ("sum", LengthRule::Sum),
        ("new tokens", LengthRule::Generated { penalty: 1.0 }),
        ("all tokens", LengthRule::Whole { penalty: 1.0 }),
        ("GNMT", LengthRule::Gnmt { alpha: 0.6 }),
    ];
    for (name, length) in rules {
        let config = BeamConfig::textbook(4, 12)
            .with_length(length)
            .with_stop_ids(vec![STOP]);
        let mut search = BeamSearch::new(&[[0]], &config)?;
        while !search.is_done() {
            search.step(&model(&search.tokens()), &unchanged)?;
        }
        let best = &search.finish()[0][0];
        let (sum, score) = (best.sum, best.score);
        println!(
            "{name:10} sum {sum:.3}, score {score:.3}: {}",
            text(&best.tokens)
        );
    }
    // ANCHOR_END: lengths
    Ok(())
}
