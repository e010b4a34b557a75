//! Beam search with and without a phrase that must come.

use llm_blocks_listings::cat::{STOP, model, text, unchanged};
use llm_sampling::SamplingError;
use llm_sampling::search::beam::BeamConfig;
use llm_sampling::search::constrained::{ConstrainedBeamSearch, Constraint, ConstraintRule};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: constraint
    let (cat, slept) = (1, 6);
    for constraints in [vec![], vec![Constraint::phrase(vec![cat, slept])]] {
        let config = BeamConfig::textbook(4, 8).with_stop_ids(vec![STOP]);
        let rule = ConstraintRule::Occurs;
        let mut search = ConstrainedBeamSearch::new(&[[0]], &config, &constraints, rule)?;
        while !search.is_done() {
            search.step(&model(&search.tokens()), &unchanged)?;
        }
        let best = &search.finish()[0][0];
        println!("{:.3}  {}", best.sum.exp(), text(&best.tokens));
    }
    // ANCHOR_END: constraint
    Ok(())
}
