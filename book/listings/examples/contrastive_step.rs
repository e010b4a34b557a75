//! One step of contrastive search for several weights of the penalty.

use llm_sampling::SamplingError;
use llm_sampling::search::contrastive::{ContrastiveConfig, ContrastiveSearch};
use ndarray::array;

fn main() -> Result<(), SamplingError> {
    // ANCHOR: step
    let context = array![[[1.0_f64, 0.0], [0.0, 1.0]]]; // hidden states [batch, seq, d_model]
    let logits = array![[0.6, 0.3, 0.1]].ln();
    for alpha in [0.0, 0.2, 0.6] {
        let config = ContrastiveConfig::new(2, alpha)?;
        let mut search = ContrastiveSearch::new(config, &context, None)?;
        let proposal = search.propose(&logits)?;
        // What the model says of the two candidates: one as before, one new.
        let hidden = array![[[2.0, 0.0], [0.6, -0.8]]]; // [batch, top_k, d_model]
        let choice = search.choose(&proposal, &hidden)?[0];
        let (token, penalty, score) = (choice.token, choice.penalty, choice.score);
        println!("alpha {alpha}: token {token}, cosine {penalty:.1}, score {score:.2}");
    }
    // ANCHOR_END: step
    Ok(())
}
