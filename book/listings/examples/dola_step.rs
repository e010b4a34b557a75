//! DoLa on three tokens and two earlier layers.

use llm_blocks_listings::left::written;
use llm_sampling::search::dola::{DolaConfig, contrast};
use llm_sampling::{Candidates, SamplingError};
use ndarray::array;

fn main() -> Result<(), SamplingError> {
    // ANCHOR: step
    let last = array![[0.5_f64, 0.45, 0.05]].ln();
    let earlier = array![[[0.8_f64, 0.1, 0.1]], [[0.55, 0.4, 0.05]]].ln(); // [layers, 1, vocab]
    let config = DolaConfig::paper().with_relative_top(0.2);
    let contrast = contrast(&last, &earlier, &config)?;
    let distances: Vec<String> = contrast
        .divergences
        .iter()
        .map(|d| format!("{d:.3}"))
        .collect();
    println!("divergences {}", distances.join(" "));
    println!("layer {}", contrast.layers[0]);
    let mut candidates = Candidates::new();
    candidates.fill(&contrast.logits.row(0).to_vec())?;
    println!("{}", written(&mut candidates)?);
    // ANCHOR_END: step
    Ok(())
}
