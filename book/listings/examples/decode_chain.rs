//! A chain of processors on the row 3, 2, 1, and the tokens that it draws.

use llm_blocks_listings::left::written;
use llm_sampling::temperature::Temperature;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::{Chain, Context, SamplingError, categorical};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: chain
    let row = [3.0_f64, 2.0, 1.0];
    let mut chain = Chain::new()
        .with(TopK::new(2, Ties::Kept, 1)?)
        .with(Temperature::new(0.5)?);
    let candidates = chain.run(&row, &Context::new(&[], &[]))?;
    println!("logits {:?}", candidates.logits());
    println!("probabilities {}", written(candidates)?);
    for u in [0.1, 0.85, 0.9] {
        println!(
            "u = {u}: token {}",
            categorical::choose(candidates, u)?.token
        );
    }
    // ANCHOR_END: chain
    Ok(())
}
