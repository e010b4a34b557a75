//! What two groups of two beams find, the more a word costs that the first group took.

use llm_blocks_listings::cat::{STOP, model, text, unchanged};
use llm_sampling::SamplingError;
use llm_sampling::search::beam::BeamConfig;
use llm_sampling::search::diverse::DiverseBeamSearch;

fn main() -> Result<(), SamplingError> {
    // ANCHOR: groups
    for penalty in [0.0, 1.0] {
        let config = BeamConfig::textbook(4, 8)
            .with_stop_ids(vec![STOP])
            .with_n_return(4);
        let mut search = DiverseBeamSearch::new(&[[0]], &config, 2, penalty)?;
        while !search.is_done() {
            search.step(&model(&search.tokens()), &unchanged)?;
        }
        println!("penalty {penalty}");
        for found in &search.finish()[0] {
            let p: f64 = found.log_probabilities.iter().sum();
            println!("  {:.3}  {}", p.exp(), text(&found.tokens));
        }
    }
    // ANCHOR_END: groups
    Ok(())
}
